// Rotary positions. Source: arXiv 2104.09864; the pairing of feature i with i + d / 2 is that of GPT-NeoX and PaLM.
#pragma once

#include <torch/types.h>

namespace adatape {

// x [T, heads, d], positions int64 [T]: each pair (x_i, x_{i + d/2}) is turned by positions x base^(-2 i / d). d must be even (Error).
// Scores of turned queries and keys depend on the distance of their positions alone. Differentiable in x.
torch::Tensor rotate_by_position(const torch::Tensor& x, const torch::Tensor& positions, double base);

}  // namespace adatape
