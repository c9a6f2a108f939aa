// Tokens to the experts that serve them, and the experts' answers back: one copy each way.
#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "adatape/nn/moe_router.h"

namespace adatape {

// Where the rows of each expert come from. Experts that serve nobody are left out; a slot is one of the others, in order, its rows in the
// order of their tokens.
struct ExpertRows {
  std::vector<int64_t> experts;               // [slots]
  std::vector<std::vector<int64_t>> choices;  // [slots][rows]: token x selected + choice
  // [T x selected], a token's choices together: the slot (-1: the expert was full) and the row of it.
  std::vector<int64_t> slots, rows;
  int64_t selected = 0;
};

std::shared_ptr<const ExpertRows> expert_rows(const MoeRouting& routing, int64_t experts);

// x [T, D] -> for each slot [rows, D].
std::vector<torch::Tensor> to_experts(const torch::Tensor& x, const std::shared_ptr<const ExpertRows>& plan);

// answers as to_experts has them (at least one slot), gates [T, selected] -> [T, D]: the sum over a token's kept choices of gate x answer,
// 0 where none was kept. Both are differentiable; on the CPU in float32 each is one pass over the tokens, elsewhere ATen's index_add.
torch::Tensor from_experts(const std::vector<torch::Tensor>& answers, const torch::Tensor& gates,
                           const std::shared_ptr<const ExpertRows>& plan);

}  // namespace adatape
