// What models that halt hand to their head: of each token that it pools, the weighted sum of its states over the steps that it ran.
#pragma once

#include "adatape/nn/packed_tokens.h"

namespace adatape {

// Sums of tokens that the head does not pool are not made. Differentiable.
class StepSums {
 public:
  // start: the first pack. class_token: the head reads class tokens, else all others.
  StepSums(const PackedTokens& start, bool class_token);

  // states [live, D] of these rows (ascending) of the first pack, weights [live]: sum += weight x state.
  void add(const torch::Tensor& states, const std::vector<int64_t>& rows, const torch::Tensor& weights);
  // sum <- weight x state + (1 - weight) x sum.
  void blend(const torch::Tensor& states, const std::vector<int64_t>& rows, const torch::Tensor& weights);

  const PackedTokens& tokens() const { return sums_; }

 private:
  struct Pooled {
    torch::Tensor places, states, weights;  // [n] rows of the sums (undefined: all of them), [n, D], [n, 1]
  };
  Pooled pooled(const torch::Tensor& states, const std::vector<int64_t>& rows, const torch::Tensor& weights) const;

  std::vector<int64_t> place_;  // of each row of the first pack in the sums; -1: not pooled
  PackedTokens sums_;
};

}  // namespace adatape
