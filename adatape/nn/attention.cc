#include "adatape/nn/attention.h"

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/nn/linear.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/packed_attention/packed_attention.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

torch::Tensor gathered(const torch::Tensor& x, const torch::Tensor& rows, int64_t count, int64_t length) {
  const torch::Tensor chosen = rows.defined() ? x.index_select(0, rows) : x;
  return chosen.view({count, length, x.size(1), x.size(2)}).transpose(1, 2);  // [count, heads, length, d]
}

// [heads, queries, keys] of one group, or undefined.
torch::Tensor additive_bias(const AttentionOptions& options, int64_t queries, int64_t keys, const torch::TensorOptions& like) {
  torch::Tensor bias;
  const auto index = like.dtype(torch::kInt64);
  const torch::Tensor distance =
      torch::arange(keys, index).unsqueeze(0) - torch::arange(keys - queries, keys, index).unsqueeze(1);  // key - query
  if (options.relative_bias.defined()) {
    const int64_t reach = (options.relative_bias.size(1) - 1) / 2;
    bias = options.relative_bias.index_select(1, (distance.clamp(-reach, reach) + reach).view({-1}))
               .view({-1, queries, keys})
               .to(like.dtype());
  }
  if (options.causal && !(queries == keys && !bias.defined())) {  // else the kernel's own causal form serves
    const torch::Tensor mask = torch::zeros({queries, keys}, like).masked_fill_(distance > 0, -INFINITY);
    bias = bias.defined() ? bias + mask : mask;
  }
  return bias;
}

// CUDA's variable-length kernels read 16 bytes at a time: pads the heads with zero columns and copies what does not lie so. Zeros change no
// score, and their columns of the output are zero.
torch::Tensor in_vectors(const torch::Tensor& x) {
  const int64_t vector = 16 / static_cast<int64_t>(x.element_size()), missing = (vector - x.size(2) % vector) % vector;
  if (missing > 0) return at::constant_pad_nd(x, {0, missing});
  const bool fits = x.stride(2) == 1 && x.stride(0) % vector == 0 && x.stride(1) % vector == 0 && x.storage_offset() % vector == 0;
  return fits ? x : x.contiguous();
}

bool is_half(const torch::Tensor& x) { return x.scalar_type() == torch::kHalf || x.scalar_type() == torch::kBFloat16; }

bool cuda_kernel_serves(const torch::Tensor& query, const AttentionOptions& options) {
  return query.is_cuda() && (is_half(query) || query.scalar_type() == torch::kFloat) && !options.relative_bias.defined();
}

torch::Tensor cuda_attention(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value,
                             const PackLayout& query_layout, const PackLayout& key_layout, bool causal, double scale) {
  constexpr int64_t kWidestFlashHead = 256;
  const torch::Tensor q = in_vectors(query), k = in_vectors(key), v = in_vectors(value);
  torch::Tensor out;
  if (is_half(q) && q.size(2) <= kWidestFlashHead) {
    ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kAttention, "flash attention of many lengths"));
    out = std::get<0>(at::_flash_attention_forward(q, k, v, query_layout.cumulative_lengths(), key_layout.cumulative_lengths(),
                                                   query_layout.longest(), key_layout.longest(), 0.0, causal, false, scale));
  } else {
    ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kAttention, "memory-efficient attention of many lengths"));
    if (is_half(q)) ADATAPE_RECORD_ONCE(ops::record_fallback(ops::kAttention, "flash attention serves heads of up to 256 features"));
    // 0 = no mask, 2 = causal with the last query at the last key (CausalFromBottomRight).
    const bool gradients = at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
    out = std::get<0>(at::_efficient_attention_forward(q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), std::nullopt,
                                                       query_layout.cumulative_lengths(), key_layout.cumulative_lengths(),
                                                       query_layout.longest(), key_layout.longest(), 0.0, causal ? 2 : 0, gradients, scale))
              .squeeze(0);
  }
  return out.size(2) == query.size(2) ? out : out.narrow(2, 0, query.size(2));
}

bool packed_kernel_serves(const torch::Tensor& query, const AttentionOptions& options) {
  return query.is_cpu() && query.scalar_type() == torch::kFloat && !options.relative_bias.defined();
}

void record_dense_groups(const AttentionOptions& options) {
  if (ops::plain_calls()) return;
  ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kAttention, "ATen over groups of equal lengths"));
  if (options.relative_bias.defined()) {
    ADATAPE_RECORD_ONCE(ops::record_fallback(ops::kAttention, "positions are relative, which no kernel over packed tokens takes"));
  } else {
    ADATAPE_RECORD_ONCE(ops::record_fallback(ops::kAttention, "kernels over packed tokens serve float32, and half precision on CUDA"));
  }
}

double scale_of(const AttentionOptions& options, int64_t head_dim) {
  return options.scale > 0 ? options.scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
}

void count_flops(const PackLayout& queries, const PackLayout& keys, bool causal, int64_t width) {
  int64_t pairs = 0;
  for (const int64_t count : attention_pairs(queries, keys, causal)) pairs += count;
  add_matrix_product_flops(4 * pairs * width);
}

}  // namespace

std::vector<int64_t> attention_pairs(const PackLayout& queries, const PackLayout& keys, bool causal) {
  std::vector<int64_t> pairs(queries.lengths().size());
  for (size_t b = 0; b < pairs.size(); ++b) {
    const int64_t count = queries.lengths()[b];
    pairs[b] = count * keys.lengths()[b] - (causal ? count * (count - 1) / 2 : 0);
  }
  return pairs;
}

void count_attention(const ForwardContext& context, const std::string& part, const PackLayout& queries, const PackLayout& keys, bool causal,
                     int64_t width, int64_t key_width) {
  if (context.work == nullptr) return;
  std::vector<int64_t> numbers = queries.lengths();
  for (size_t b = 0; b < numbers.size(); ++b) numbers[b] = 2 * (numbers[b] * width + keys.lengths()[b] * key_width);
  context.work->push_back({part, attention_pairs(queries, keys, causal), 4 * width, std::move(numbers), 0});
}

torch::Tensor packed_attention(const torch::Tensor& query, const torch::Tensor& key_few, const torch::Tensor& value_few,
                               const PackLayout& query_layout, const PackLayout& key_layout, const AttentionOptions& options,
                               const AttentionPlan* plan) {
  const int64_t heads = query.size(1), head_dim = query.size(2), key_heads = key_few.size(1);
  ADATAPE_CHECK(query.size(0) == query_layout.total() && key_few.size(0) == key_layout.total() && value_few.size(0) == key_layout.total(),
                "attention", "expected ", query_layout.total(), " queries and ", key_layout.total(), " keys and values, got ",
                query.size(0), ", ", key_few.size(0), " and ", value_few.size(0));
  ADATAPE_CHECK(key_heads > 0 && heads % key_heads == 0, "attention", "expected key heads that divide ", heads, " heads, got ", key_heads);
  for (int64_t b = 0; b < query_layout.batch(); ++b) {
    ADATAPE_CHECK(query_layout.lengths()[b] == 0 || key_layout.lengths()[b] > 0, "attention", "example ", b, " has ",
                  query_layout.lengths()[b], " queries and no keys");
  }
  const double scale = scale_of(options, head_dim);
  if (query.size(0) == 0) return query.reshape({0, heads * head_dim});
  count_flops(query_layout, key_layout, options.causal, heads * head_dim);
  if (packed_kernel_serves(query, options)) {
    return std::get<0>(ops::packed_attention(query, key_few, value_few, query_layout.offsets_tensor(), key_layout.offsets_tensor(),
                                             {options.causal, scale}))
        .flatten(1);
  }
  const auto all_heads = [&](const torch::Tensor& x) { return key_heads == heads ? x : x.repeat_interleave(heads / key_heads, 1); };
  const torch::Tensor key = all_heads(key_few), value = all_heads(value_few);
  if (cuda_kernel_serves(query, options)) {
    return cuda_attention(query, key, value, query_layout, key_layout, options.causal, scale).reshape({-1, heads * head_dim});
  }
  record_dense_groups(options);
  AttentionPlan made;
  if (plan == nullptr) {
    made = plan_attention(query_layout, key_layout);
    plan = &made;
  }
  std::vector<torch::Tensor> outputs;
  outputs.reserve(plan->groups.size());
  for (const AttentionGroup& group : plan->groups) {
    const torch::Tensor bias = additive_bias(options, group.query_length, group.key_length, query.options().requires_grad(false));
    const torch::Tensor out = at::scaled_dot_product_attention(
        gathered(query, group.query_rows, group.count, group.query_length), gathered(key, group.key_rows, group.count, group.key_length),
        gathered(value, group.key_rows, group.count, group.key_length), bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt,
        0.0, options.causal && !bias.defined(), scale);
    outputs.push_back(out.transpose(1, 2).reshape({-1, heads * head_dim}));
  }
  const torch::Tensor together = outputs.size() == 1 ? outputs.front() : torch::cat(outputs);
  return plan->restore.defined() ? together.index_select(0, plan->restore) : together;
}

torch::Tensor packed_self_attention(const torch::Tensor& qkv, const PackLayout& layout, const AttentionOptions& options) {
  const int64_t heads = qkv.size(2), head_dim = qkv.size(3);
  if (!packed_kernel_serves(qkv, options) || qkv.size(0) == 0) {
    return packed_attention(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), layout, layout, options,
                            cuda_kernel_serves(qkv, options) ? nullptr : &layout.self_attention());
  }
  count_flops(layout, layout, options.causal, heads * head_dim);
  const ops::PackedAttentionOptions of_op{options.causal, scale_of(options, head_dim)};
  if (options.products == torch::kBFloat16 && !at::GradMode::is_enabled())
    return ops::packed_self_attention_bfloat16(qkv, layout.offsets_tensor(), of_op).flatten(1);
  return std::get<0>(ops::packed_self_attention(qkv, layout.offsets_tensor(), of_op)).flatten(1);
}

void KeyValueCache::append(const torch::Tensor& new_key, const torch::Tensor& new_value,
                           const std::shared_ptr<const PackLayout>& new_layout) {
  if (!key.defined()) {
    key = new_key;
    value = new_value;
    layout = new_layout;
    return;
  }
  const auto join = [&](const torch::Tensor& old, const torch::Tensor& added) {
    PackedTokens joined = append_tokens({old.flatten(1), layout}, added.flatten(1), new_layout->lengths(), TokenKind::kInput);
    return std::make_pair(joined.values.view({-1, old.size(1), old.size(2)}), joined.layout);
  };
  const auto [joined_key, joined_layout] = join(key, new_key);
  value = join(value, new_value).first;
  key = joined_key;
  layout = joined_layout;
}

}  // namespace adatape
