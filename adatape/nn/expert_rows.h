// Tokens to the experts that serve them, and the experts' answers back: one copy each way.
#pragma once

#include <torch/types.h>

#include <memory>
#include <vector>

#include "adatape/nn/moe_router.h"

namespace adatape {

// Rows by expert, those of one expert in the order of their tokens.
struct ExpertRows {
  std::vector<int64_t> offsets;  // [experts + 1]: rows offsets[e] .. offsets[e + 1] are expert e's
  std::vector<int64_t> choices;  // [rows]: token x selected + choice
  std::vector<int64_t> rows;     // [T x selected]: the row of a choice; -1: the expert was full
  int64_t selected = 0;
};

std::shared_ptr<const ExpertRows> expert_rows(const MoeRouting& routing, int64_t experts);

std::vector<int64_t> tokens_of_rows(const ExpertRows& plan);  // [rows]

// x [T, D] -> [rows, D].
torch::Tensor to_experts(const torch::Tensor& x, const std::shared_ptr<const ExpertRows>& plan);

// answers [rows, D], gates [T, selected] -> [T, D]: the sum over a token's kept choices of gate x answer, 0 where none was kept.
// Both are differentiable; on the CPU in float32 each is one pass over the tokens, elsewhere ATen's index_add.
torch::Tensor from_experts(const torch::Tensor& answers, const torch::Tensor& gates, const std::shared_ptr<const ExpertRows>& plan);

}  // namespace adatape
