#include "adatape/nn/packed_tokens.h"

#include "adatape/core/check.h"
#include "adatape/nn/segments.h"
#include "adatape/ops/half_block/half_block.h"

namespace adatape {

PackedTokens append_tokens(const PackedTokens& pack, const torch::Tensor& tokens, const std::vector<int64_t>& counts, TokenKind kind) {
  const PackLayout& old = *pack.layout;
  ADATAPE_CHECK(static_cast<int64_t>(counts.size()) == old.batch(), "append", "expected a count for each of ", old.batch(),
                " examples, got ", counts.size());
  std::vector<int64_t> lengths;
  std::vector<TokenKind> kinds;
  auto segments = std::make_shared<Segments>();
  lengths.reserve(counts.size());
  kinds.reserve(old.total() + tokens.size(0));
  int64_t next = 0;
  for (int64_t b = 0; b < old.batch(); ++b) {
    kinds.insert(kinds.end(), old.kinds().begin() + old.offsets()[b], old.kinds().begin() + old.offsets()[b + 1]);
    kinds.insert(kinds.end(), static_cast<size_t>(counts[b]), kind);
    lengths.push_back(old.lengths()[b] + counts[b]);
    add_segment(*segments, {0, old.offsets()[b], old.lengths()[b]});
    add_segment(*segments, {1, next, counts[b]});
    next += counts[b];
  }
  ADATAPE_CHECK(next == tokens.size(0), "append", "expected ", next, " tokens, got ", tokens.size(0));
  auto layout = std::make_shared<const PackLayout>(std::move(lengths), std::move(kinds), old.device());
  return {join_segments({pack.values, tokens.to(pack.values.scalar_type())}, segments), std::move(layout)};
}

PackedTokens prepend_token(const PackedTokens& pack, const torch::Tensor& token, TokenKind kind) {
  const PackLayout& old = *pack.layout;
  const int64_t batch = old.batch(), dim = token.size(-1);
  std::vector<int64_t> lengths, rows;
  std::vector<TokenKind> kinds;
  for (int64_t b = 0; b < batch; ++b) {
    rows.push_back(b);
    kinds.push_back(kind);
    for (int64_t row = old.offsets()[b]; row < old.offsets()[b + 1]; ++row) {
      rows.push_back(batch + row);
      kinds.push_back(old.kinds()[row]);
    }
    lengths.push_back(old.lengths()[b] + 1);
  }
  auto layout = std::make_shared<const PackLayout>(std::move(lengths), std::move(kinds), old.device());
  const torch::Tensor tokens = (token.dim() == 1 ? token.expand({batch, dim}) : token).to(pack.values.scalar_type());
  if (old.total() == 0) return {tokens.contiguous(), std::move(layout)};
  if (old.uniform()) {
    return {torch::cat({tokens.unsqueeze(1), pack.values.view({batch, old.longest(), dim})}, 1).view({-1, dim}), std::move(layout)};
  }
  return {torch::cat({tokens, pack.values}).index_select(0, index_tensor(rows, old.device())), std::move(layout)};
}

std::shared_ptr<const PackLayout> kept_layout(const PackLayout& layout, const std::vector<int64_t>& rows) {
  std::vector<int64_t> lengths(static_cast<size_t>(layout.batch()));
  std::vector<TokenKind> kinds;
  kinds.reserve(rows.size());
  int64_t example = 0;
  for (const int64_t row : rows) {
    while (row >= layout.offsets()[example + 1]) ++example;
    ++lengths[example];
    kinds.push_back(layout.kinds()[row]);
  }
  return std::make_shared<const PackLayout>(std::move(lengths), std::move(kinds), layout.device());
}

torch::Tensor mean_per_example(const PackedTokens& pack) {
  const PackLayout& layout = *pack.layout;
  const int64_t dim = pack.values.size(1);
  const bool has_class = layout.count(TokenKind::kClass) > 0;
  if (layout.uniform() && !has_class && layout.longest() > 0) return pack.values.view({layout.batch(), layout.longest(), dim}).mean(1);
  if (!has_class && ops::has_half_block(pack.values, dim) &&
      (pack.values.scalar_type() == torch::kFloat || pack.values.scalar_type() == torch::kBFloat16)) {
    const torch::Tensor counts = index_tensor(layout.lengths(), layout.device()).clamp_min(1).unsqueeze(1);
    return (ops::segment_sums(pack.values, layout.offsets_tensor(), layout.example_of_token()) / counts).to(pack.values.scalar_type());
  }
  torch::Tensor values = pack.values, example = layout.example_of_token();
  std::vector<int64_t> counts = layout.lengths();
  if (has_class) {
    const torch::Tensor& rows = layout.rows_but(TokenKind::kClass);
    values = values.index_select(0, rows);
    example = example.index_select(0, rows);
    const std::vector<int64_t> class_counts = layout.lengths_of(TokenKind::kClass);
    for (size_t b = 0; b < counts.size(); ++b) counts[b] -= class_counts[b];
  }
  const torch::Tensor sums = torch::zeros({layout.batch(), dim}, values.options()).index_add(0, example, values);
  return sums / index_tensor(counts, layout.device()).clamp_min(1).to(values.scalar_type()).unsqueeze(1);
}

torch::Tensor class_tokens(const PackedTokens& pack) {
  const PackLayout& layout = *pack.layout;
  ADATAPE_CHECK(layout.count(TokenKind::kClass) == layout.batch(), "class token", "expected one class token in each of ", layout.batch(),
                " examples, got ", layout.count(TokenKind::kClass), "; set model.pooling = \"gap\" or model.class_token = true");
  if (layout.total() == layout.batch()) return pack.values;  // nothing else is left, as after a pooled last block
  const torch::Tensor& rows = layout.rows_of(TokenKind::kClass);
  if (!pack.values.is_cpu()) return pack.values.index_select(0, rows);
  const auto segments = std::make_shared<Segments>();  // whose gradient is copied into place, where index_select's is added row by row
  for (int64_t b = 0; b < layout.batch(); ++b) add_segment(*segments, {0, rows.const_data_ptr<int64_t>()[b], 1});
  return join_segments({pack.values}, segments);
}

}  // namespace adatape
