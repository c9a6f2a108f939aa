// Rows that are done leave a tensor of rows, at a cost that follows how many leave.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace adatape {

// halts: bool [rows]. leave: those that halt, in order. stay: the others, so ordered that most keep their place: rows from the end fill the
// gaps.
struct RowCompaction {
  explicit RowCompaction(const torch::Tensor& halts);
  std::vector<int64_t> leave, stay;
};

// x[stay]. With gradients off x's own memory is used, and only rows that change place are copied: x must be the caller's alone. Otherwise a
// copy, differentiable.
torch::Tensor keep_rows(const torch::Tensor& x, const std::vector<int64_t>& stay);

// values[place] for each place: what a caller keeps beside the rows.
std::vector<int64_t> values_at(const std::vector<int64_t>& values, const std::vector<int64_t>& places);

}  // namespace adatape
