// T5's relative positions: a learned score for each head and bucket of distances, one table for all blocks of a stack.
// Source: arXiv 1910.10683, section 2.1.
#pragma once

#include "adatape/nn/initialize.h"

namespace adatape {

// The bucket of a distance (key - query), 0 .. buckets - 1. Bidirectional: half of the buckets for each sign, else keys that lie ahead
// share bucket 0 with distance 0. Of a sign's n buckets the first n / 2 hold one distance each, the others grow logarithmically to
// max_distance; what is farther shares the last.
int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t max_distance);

struct RelativeBuckets : Module {
  RelativeBuckets(int64_t buckets, int64_t max_distance, int64_t heads, bool bidirectional);
  void initialize(at::Generator& generator, double deviation) { normal(weight, deviation, generator); }
  // [heads, 2 reach + 1]: AttentionOptions::relative_bias of distances -reach .. reach. Differentiable.
  torch::Tensor table(int64_t reach) const;

  int64_t max_distance;
  bool bidirectional;
  torch::Tensor weight;  // [buckets, heads]
};

}  // namespace adatape
