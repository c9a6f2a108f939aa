// What a layer may know beyond its input: whether it trains, what its random draws key on, and where it reports its work.
#pragma once

#include <torch/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "adatape/nn/row_cost.h"

namespace adatape {

// Work of one part of a forward pass for each example: FLOPs = rows x flops_per_row (FLOPs = 2 x multiply-adds).
struct WorkItem {
  std::string part;           // "block 1 / attention projections"
  std::vector<int64_t> rows;  // [B] rows (tokens, or query-key pairs) really computed
  int64_t flops_per_row = 0;
  std::vector<int64_t> numbers;  // [B] values read and written
  int64_t weights = 0;           // as RowCost has them
  std::array<ProductShape, 2> products = {};
};

// An extra loss: the trainer adds weight x mean over examples.
struct AuxiliaryLoss {
  std::string name;      // several of one name add up
  torch::Tensor values;  // [B], not multiplied by weight
  double weight = 0;
  bool of_batch = false;  // one value for the batch as a whole, repeated for its examples: it alone depends on batch mates
};

// How a mixture of experts shared out the choices of its tokens.
struct ExpertLoad {
  std::string part;             // "block 1"
  std::vector<int64_t> served;  // [experts] choices that each served
  int64_t choices = 0;          // all that were made; those that nobody served were dropped
};

struct ForwardContext {
  bool training = false;
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t draw_step = 0;                                  // steps since the weights were drawn: what schedules go by
  torch::Tensor examples;                                  // int64 [B], CPU
  std::vector<WorkItem>* work = nullptr;                   // null: nobody counts
  std::vector<AuxiliaryLoss>* auxiliary_losses = nullptr;  // where layers put losses of their own; null: nobody wants them
  std::vector<ExpertLoad>* expert_loads = nullptr;         // filled with work

  void count(const std::string& part, const std::vector<int64_t>& rows, const RowCost& row) const {
    if (work == nullptr) return;
    std::vector<int64_t> numbers(rows);
    for (int64_t& number : numbers) number *= row.numbers;
    work->push_back({part, rows, row.flops, std::move(numbers), row.weights, row.products});
  }
};

}  // namespace adatape
