// Rows of a small table by number: symbols as tokens.
#pragma once

#include <torch/types.h>

namespace adatape {

// table [V, D], index int64 [n] in 0 .. V - 1 (Error otherwise) -> [n, D]. Differentiable in the table. On the CPU in float32 whole rows
// are copied, and the gradient adds rows in the order of the index; elsewhere ATen's index_select.
torch::Tensor look_up(const torch::Tensor& table, const torch::Tensor& index);

}  // namespace adatape
