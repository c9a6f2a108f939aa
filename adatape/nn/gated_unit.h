// The gate of a GLU: a * sigmoid(g).
#pragma once

#include <torch/types.h>

namespace adatape {

// x [rows, 2 m], halves a and g -> a * sigmoid(g) [rows, m]. Differentiable. On the CPU in float32 one pass each way, the sigmoid
// kept for the backward; elsewhere ATen's glu. Source: arXiv 1612.08083.
torch::Tensor gated_unit(const torch::Tensor& x);

}  // namespace adatape
