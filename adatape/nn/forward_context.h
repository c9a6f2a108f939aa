// What a layer may know beyond its input: whether it trains, what its random draws key on, and where it reports its work.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// Work of one part of a forward pass for each example: FLOPs = rows x flops_per_row (FLOPs = 2 x multiply-adds).
struct WorkItem {
  std::string part;           // "block 1 / attention projections"
  std::vector<int64_t> rows;  // [B] rows (tokens, or query-key pairs) really computed
  int64_t flops_per_row = 0;
};

struct ForwardContext {
  bool training = false;
  uint64_t seed = 0;
  uint64_t step = 0;
  uint64_t draw_step = 0;                // steps since the weights were drawn: what schedules go by
  torch::Tensor examples;                // int64 [B], CPU
  std::vector<WorkItem>* work = nullptr;  // null: nobody counts

  void count(const std::string& part, const std::vector<int64_t>& rows, int64_t flops_per_row) const {
    if (work != nullptr) work->push_back({part, rows, flops_per_row});
  }
};

}  // namespace adatape
