// Attention over packed tokens: each example attends to itself alone, at the cost of its own lengths.
#pragma once

#include "adatape/nn/forward_context.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

struct AttentionOptions {
  // Query i of an example sees keys 0 .. (keys - queries + i): the queries are the last ones of the sequence (decoders with a cache).
  bool causal = false;
  // [heads, 2 R + 1]: added to the score of a query and a key that lie r places apart (r = key - query, clamped to -R .. R), entry R + r.
  torch::Tensor relative_bias;
  // 0: 1 / sqrt(head_dim).
  double scale = 0;
  // kBFloat16: self-attention without a gradient on the CPU takes bfloat16 factors, as packed weights do; elsewhere ignored.
  torch::Dtype products = torch::kFloat;
};

// query [Tq, heads, d] by query_layout; key, value [Tk, key_heads, d] by key_layout (key_heads divides heads; 1 = multi-query). The two
// layouts have the same examples; an example may have keys without queries (halted tokens) but not queries without keys (Error). Returns
// [Tq, heads * d]. plan: plan_attention(query_layout, key_layout), where the caller keeps it (null: made here). CPU float32:
// ops/packed_attention, straight from the pack. CUDA: flash attention by cumulative lengths in half precision, memory-efficient attention
// in float32 and for heads wider than 256; heads of which 16 bytes hold no whole number are padded. Other dtypes, and relative_bias
// everywhere: dense attention for each group of equal lengths. Differentiable. Cost: 4 d heads FLOPs a query-key pair.
torch::Tensor packed_attention(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                               const PackLayout& query_layout, const PackLayout& key_layout, const AttentionOptions& options = {},
                               const AttentionPlan* plan = nullptr);

// The same for tokens that attend to each other: qkv [T, 3, heads, d] holds query, key and value of each. On the CPU in float32 its
// gradient is written as one tensor, nothing is split or joined.
torch::Tensor packed_self_attention(const torch::Tensor& qkv, const PackLayout& layout, const AttentionOptions& options = {});

// Keys and values of tokens already seen; what a decoder keeps between calls.
struct KeyValueCache {
  torch::Tensor key, value;                  // [total, key_heads, d]; undefined: empty
  std::shared_ptr<const PackLayout> layout;  // null: empty
  // Puts new tokens behind each example's old ones.
  void append(const torch::Tensor& new_key, const torch::Tensor& new_value, const std::shared_ptr<const PackLayout>& new_layout);
};

// Query-key pairs of each example: what attention costs. causal: those that a query sees, the queries being the last of the keys.
std::vector<int64_t> attention_pairs(const PackLayout& queries, const PackLayout& keys, bool causal = false);

// Tells the context of an attention: FLOPs for each pair; of numbers the queries, what comes out, and the keys and values, once each.
// width: heads x head_dim of queries; key_width: of keys. Nothing is computed when nobody counts.
void count_attention(const ForwardContext& context, const std::string& part, const PackLayout& queries, const PackLayout& keys, bool causal,
                     int64_t width, int64_t key_width);

}  // namespace adatape
