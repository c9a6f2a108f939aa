// Dropout and stochastic depth whose draws belong to (seed, step, example, site), not to the place in the batch.
#pragma once

#include "adatape/nn/forward_context.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

// Zeroes each feature of each token with probability rate and scales the rest by 1 / (1 - rate); identity unless context.training.
torch::Tensor dropout(const torch::Tensor& values, const PackLayout& layout, double rate, const ForwardContext& context, uint32_t index);

// A factor for each example's residual branch: 0 with probability rate, else 1 / (1 - rate), as [total, 1]; undefined where it is 1 for
// all.
torch::Tensor stochastic_depth_factor(const PackLayout& layout, double rate, const ForwardContext& context, uint32_t index,
                                      const torch::Tensor& like);

}  // namespace adatape
