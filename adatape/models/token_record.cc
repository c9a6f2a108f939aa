#include "adatape/models/token_record.h"

namespace adatape {

void record_tokens(const PackLayout& layout, ModelOutput& output) {
  std::vector<int64_t> kinds;
  kinds.reserve(layout.kinds().size());
  for (const TokenKind kind : layout.kinds()) kinds.push_back(static_cast<int64_t>(kind));
  output.intermediates["token_counts"] = index_tensor(layout.lengths(), layout.device()).to(torch::kInt32);
  output.intermediates["token_kinds"] = index_tensor(kinds, layout.device()).to(torch::kInt32);
}

}  // namespace adatape
