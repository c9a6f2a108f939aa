// What a GRU does with its two products, in one pass.
#pragma once

#include <torch/types.h>

namespace adatape {

// from_input, from_state [rows, 3 S] (gates r, z, n), hidden [rows, S] -> (1 - z) n + z h [rows, S], r and z sigmoids, n = tanh(i_n + r
// s_n). Without a gradient, float32 on the CPU, adjacent columns. Source: arXiv 1406.1078 with torch's order and reset after the product.
torch::Tensor gru_gates(const torch::Tensor& from_input, const torch::Tensor& from_state, const torch::Tensor& hidden);

}  // namespace adatape
