// Where each example's tokens lie in a pack. Computed once when tokens are appended or dropped, then shared by all layers.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "adatape/nn/segments.h"
#include "adatape/ops/cuda_kernels.h"

namespace adatape {

enum class TokenKind : uint8_t { kInput, kClass, kTape };

// Examples of one query length and one key length: dense attention of [count, length].
struct AttentionGroup {
  int64_t count = 0, query_length = 0, key_length = 0;
  torch::Tensor query_rows, key_rows;  // int64 rows of the packs, group order; undefined: all rows as they lie
};
struct AttentionPlan {
  std::vector<AttentionGroup> groups;
  torch::Tensor restore;  // int64 [total queries]: row of the concatenated groups for each row of the pack; undefined: identity
};

class PackLayout {
 public:
  // lengths [B]; kinds [sum of lengths], or empty: all kInput.
  PackLayout(std::vector<int64_t> lengths, std::vector<TokenKind> kinds, torch::Device device);

  int64_t batch() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t total() const { return offsets_.back(); }
  int64_t longest() const { return longest_; }
  bool uniform() const { return uniform_; }  // all lengths equal (and at least one example)
  torch::Device device() const { return device_; }
  const std::vector<int64_t>& lengths() const { return lengths_; }
  const std::vector<int64_t>& offsets() const { return offsets_; }  // [B + 1]
  const std::vector<TokenKind>& kinds() const { return kinds_; }    // [total]
  int64_t count(TokenKind kind) const;
  bool tape_is_last() const;                              // all tape tokens of the pack stand behind all others, as in a single example
  std::vector<int64_t> lengths_of(TokenKind kind) const;  // [B]

  // Tensors on the device, made at first use.
  const torch::Tensor& offsets_tensor() const;          // int64 [B + 1]
  const torch::Tensor& cumulative_lengths() const;      // int32 [B + 1], what variable-length kernels take
  const torch::Tensor& example_of_token() const;        // int64 [total]
  const torch::Tensor& rows_of(TokenKind kind) const;   // int64, ascending
  const torch::Tensor& rows_but(TokenKind kind) const;  // int64, ascending
  // Tape tokens and all others as runs of rows (source 0), and the pack as runs of the two: source 0 the others, 1 the tape.
  const std::shared_ptr<const Segments>& segments_of_tape() const;
  const std::shared_ptr<const Segments>& segments_but_tape() const;
  const std::shared_ptr<const Segments>& restore_kinds() const;
  const ops::RowSplit& tape_split() const;  // all but tape tokens, then those
  const AttentionPlan& self_attention() const;

 private:
  void make_segments() const;
  torch::Tensor rows_where(TokenKind kind, bool equal) const;
  std::vector<int64_t> lengths_, offsets_;
  std::vector<TokenKind> kinds_;
  torch::Device device_;
  int64_t longest_ = 0;
  bool uniform_ = true;
  mutable torch::Tensor offsets_tensor_, cumulative_lengths_, example_of_token_, rows_of_[3], rows_but_[3];
  mutable std::shared_ptr<const Segments> of_tape_, but_tape_, restore_kinds_;
  mutable ops::RowSplit tape_split_;
  mutable std::unique_ptr<AttentionPlan> self_attention_;
};

// Groups the examples of two layouts (same batch) by (query length, key length). Examples without queries take no part.
AttentionPlan plan_attention(const PackLayout& queries, const PackLayout& keys);

// int64 tensor of host numbers on a device.
torch::Tensor index_tensor(const std::vector<int64_t>& values, torch::Device device);

}  // namespace adatape
