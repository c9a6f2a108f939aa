#include "adatape/nn/row_compaction.h"

#include <ATen/core/grad_mode.h>

#include <cstring>

#include "adatape/nn/pack_layout.h"

namespace adatape {

RowCompaction::RowCompaction(const torch::Tensor& halts) {
  const torch::Tensor host = halts.to(torch::kCPU).contiguous();
  const bool* halted = host.const_data_ptr<bool>();
  for (int64_t i = 0; i < host.numel(); ++i) {
    if (halted[i]) leave.push_back(i);
  }
  const int64_t kept = host.numel() - static_cast<int64_t>(leave.size());
  int64_t last = host.numel() - 1;
  for (int64_t i = 0; i < kept; ++i) {
    if (!halted[i]) {
      stay.push_back(i);
      continue;
    }
    while (halted[last]) --last;
    stay.push_back(last--);
  }
}

torch::Tensor keep_rows(const torch::Tensor& x, const std::vector<int64_t>& stay) {
  const auto kept = static_cast<int64_t>(stay.size());
  if (at::GradMode::is_enabled()) return x.index_select(0, index_tensor(stay, x.device()));
  if (x.is_cpu() && x.is_contiguous()) {
    const int64_t bytes = x.numel() == 0 ? 0 : x.numel() / x.size(0) * x.element_size();
    char* const rows = static_cast<char*>(x.data_ptr());
    for (int64_t i = 0; i < kept; ++i) {
      const int64_t source = stay[static_cast<size_t>(i)];
      if (source != i) std::memcpy(rows + i * bytes, rows + source * bytes, static_cast<size_t>(bytes));
    }
    return x.narrow(0, 0, kept);
  }
  std::vector<int64_t> gaps, sources;
  for (int64_t i = 0; i < kept; ++i) {
    if (stay[static_cast<size_t>(i)] == i) continue;
    gaps.push_back(i);
    sources.push_back(stay[static_cast<size_t>(i)]);
  }
  if (!gaps.empty()) x.index_copy_(0, index_tensor(gaps, x.device()), x.index_select(0, index_tensor(sources, x.device())));
  return x.narrow(0, 0, kept);
}

std::vector<int64_t> values_at(const std::vector<int64_t>& values, const std::vector<int64_t>& places) {
  std::vector<int64_t> result;
  result.reserve(places.size());
  for (const int64_t place : places) result.push_back(values[static_cast<size_t>(place)]);
  return result;
}

}  // namespace adatape
