// Draws of initial parameters, from one generator so that (seed, draw) fixes every bit.
#pragma once

#include <ATen/core/Generator.h>

#include "adatape/nn/linear.h"

namespace adatape {

// A generator for all parameters of a model, in declaration order.
at::Generator parameter_generator(uint64_t seed, uint64_t draw);

// U(-a, a), a = sqrt(6 / (in + out)); biases zero.
void xavier_uniform(Linear& linear, at::Generator& generator);
// Truncated normal (cut at 2 sigma) with variance 1 / fan_in; biases zero. What Flax draws for convolutions and embeddings.
void lecun_normal(torch::Tensor weight, int64_t fan_in, at::Generator& generator);
void normal(torch::Tensor tensor, double deviation, at::Generator& generator);
// deviation x a normal cut at 2 sigma.
void truncated_normal(torch::Tensor tensor, double deviation, at::Generator& generator);

}  // namespace adatape
