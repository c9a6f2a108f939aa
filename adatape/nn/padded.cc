#include "adatape/nn/padded.h"

namespace adatape {

torch::Tensor without_padding(const torch::Tensor& padded, const PackLayout& layout) {
  if (layout.uniform()) return padded;
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(layout.total()));
  for (int64_t b = 0; b < layout.batch(); ++b) {
    for (int64_t i = 0; i < layout.lengths()[static_cast<size_t>(b)]; ++i) rows.push_back(b * layout.longest() + i);
  }
  return padded.index_select(0, index_tensor(rows, torch::kCPU));
}

}  // namespace adatape
