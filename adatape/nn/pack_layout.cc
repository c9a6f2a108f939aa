#include "adatape/nn/pack_layout.h"

#include <algorithm>
#include <map>
#include <utility>

#include "adatape/core/check.h"

namespace adatape {

torch::Tensor index_tensor(const std::vector<int64_t>& values, torch::Device device) {
  // Not waited for: such copies have left the host's memory when the call returns, and a wait would empty the device's queue.
  return torch::tensor(values, torch::kInt64).to(device, torch::kInt64, /*non_blocking=*/true);
}

PackLayout::PackLayout(std::vector<int64_t> lengths, std::vector<TokenKind> kinds, torch::Device device)
    : lengths_(std::move(lengths)), kinds_(std::move(kinds)), device_(device) {
  offsets_.reserve(lengths_.size() + 1);
  offsets_.push_back(0);
  for (const int64_t length : lengths_) {
    ADATAPE_CHECK(length >= 0, "packed tokens", "expected lengths >= 0, got ", length);
    offsets_.push_back(offsets_.back() + length);
    longest_ = std::max(longest_, length);
    uniform_ = uniform_ && length == lengths_.front();
  }
  uniform_ = uniform_ && !lengths_.empty();
  if (kinds_.empty()) kinds_.assign(static_cast<size_t>(total()), TokenKind::kInput);
  ADATAPE_CHECK(static_cast<int64_t>(kinds_.size()) == total(), "packed tokens", "expected a kind for each of ", total(), " tokens, got ",
                kinds_.size());
}

int64_t PackLayout::count(TokenKind kind) const { return std::count(kinds_.begin(), kinds_.end(), kind); }

bool PackLayout::tape_is_last() const {
  return std::is_partitioned(kinds_.begin(), kinds_.end(), [](TokenKind kind) { return kind != TokenKind::kTape; });
}

std::vector<int64_t> PackLayout::lengths_of(TokenKind kind) const {
  std::vector<int64_t> counts(lengths_.size());
  for (size_t b = 0; b < lengths_.size(); ++b) {
    counts[b] = std::count(kinds_.begin() + offsets_[b], kinds_.begin() + offsets_[b + 1], kind);
  }
  return counts;
}

const torch::Tensor& PackLayout::offsets_tensor() const {
  if (!offsets_tensor_.defined()) offsets_tensor_ = index_tensor(offsets_, device_);
  return offsets_tensor_;
}

const torch::Tensor& PackLayout::cumulative_lengths() const {
  if (!cumulative_lengths_.defined()) cumulative_lengths_ = offsets_tensor().to(torch::kInt32);
  return cumulative_lengths_;
}

const torch::Tensor& PackLayout::example_of_token() const {
  if (!example_of_token_.defined()) {
    std::vector<int64_t> examples(static_cast<size_t>(total()));
    for (int64_t b = 0; b < batch(); ++b) std::fill(examples.begin() + offsets_[b], examples.begin() + offsets_[b + 1], b);
    example_of_token_ = index_tensor(examples, device_);
  }
  return example_of_token_;
}

torch::Tensor PackLayout::rows_where(TokenKind kind, bool equal) const {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < total(); ++row) {
    if ((kinds_[row] == kind) == equal) rows.push_back(row);
  }
  return index_tensor(rows, device_);
}

const torch::Tensor& PackLayout::rows_of(TokenKind kind) const {
  torch::Tensor& rows = rows_of_[static_cast<int>(kind)];
  if (!rows.defined()) rows = rows_where(kind, true);
  return rows;
}

const torch::Tensor& PackLayout::rows_but(TokenKind kind) const {
  torch::Tensor& rows = rows_but_[static_cast<int>(kind)];
  if (!rows.defined()) rows = rows_where(kind, false);
  return rows;
}

const ops::RowSplit& PackLayout::tape_split() const {
  if (tape_split_.places.defined()) return tape_split_;
  tape_split_.first = total() - count(TokenKind::kTape);
  torch::Tensor places = torch::empty({total()}, torch::kInt32);
  int32_t* const place = places.data_ptr<int32_t>();
  int32_t other = 0, tape = static_cast<int32_t>(tape_split_.first);
  for (size_t i = 0; i < kinds_.size(); ++i) place[i] = kinds_[i] == TokenKind::kTape ? tape++ : other++;
  tape_split_.places = places.to(device_);
  return tape_split_;
}

void PackLayout::make_segments() const {
  Segments tape, others, restore;
  int64_t next_tape = 0, next_other = 0;
  for (int64_t row = 0; row < total(); ++row) {
    const bool is_tape = kinds_[row] == TokenKind::kTape;
    add_segment(is_tape ? tape : others, {0, row, 1});
    add_segment(restore, is_tape ? Segment{1, next_tape++, 1} : Segment{0, next_other++, 1});
  }
  of_tape_ = std::make_shared<const Segments>(std::move(tape));
  but_tape_ = std::make_shared<const Segments>(std::move(others));
  restore_kinds_ = std::make_shared<const Segments>(std::move(restore));
}

const std::shared_ptr<const Segments>& PackLayout::segments_of_tape() const {
  if (!of_tape_) make_segments();
  return of_tape_;
}

const std::shared_ptr<const Segments>& PackLayout::segments_but_tape() const {
  if (!but_tape_) make_segments();
  return but_tape_;
}

const std::shared_ptr<const Segments>& PackLayout::restore_kinds() const {
  if (!restore_kinds_) make_segments();
  return restore_kinds_;
}

const AttentionPlan& PackLayout::self_attention() const {
  if (!self_attention_) self_attention_ = std::make_unique<AttentionPlan>(plan_attention(*this, *this));
  return *self_attention_;
}

AttentionPlan plan_attention(const PackLayout& queries, const PackLayout& keys) {
  ADATAPE_CHECK(queries.batch() == keys.batch(), "attention", "expected as many examples in queries as in keys, got ", queries.batch(),
                " and ", keys.batch());
  AttentionPlan plan;
  if (queries.total() == 0) return plan;
  if (queries.uniform() && keys.uniform()) {
    plan.groups.push_back({queries.batch(), queries.longest(), keys.longest(), {}, {}});
    return plan;
  }
  std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> examples;
  for (int64_t b = 0; b < queries.batch(); ++b) {
    if (queries.lengths()[b] > 0) examples[{queries.lengths()[b], keys.lengths()[b]}].push_back(b);
  }
  const auto rows_of = [](const PackLayout& layout, const std::vector<int64_t>& members) {
    std::vector<int64_t> rows;
    for (const int64_t b : members) {
      for (int64_t row = layout.offsets()[b]; row < layout.offsets()[b + 1]; ++row) rows.push_back(row);
    }
    return rows;
  };
  std::vector<int64_t> restore(static_cast<size_t>(queries.total()));
  int64_t next = 0;
  for (const auto& [lengths, members] : examples) {
    const std::vector<int64_t> query_rows = rows_of(queries, members);
    for (const int64_t row : query_rows) restore[row] = next++;
    const torch::Tensor query_index = index_tensor(query_rows, queries.device());
    const torch::Tensor key_index = &queries == &keys ? query_index : index_tensor(rows_of(keys, members), keys.device());
    plan.groups.push_back({static_cast<int64_t>(members.size()), lengths.first, lengths.second, query_index, key_index});
  }
  plan.restore = index_tensor(restore, queries.device());
  return plan;
}

}  // namespace adatape
