// adatape::packed_attention in plain ATen calls, one example after the other.
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>

#include <limits>

#include "adatape/ops/packed_attention/packed_attention_kernels.h"

namespace adatape::ops {
namespace {

// Calls each(example's queries, its keys), as first row and count.
template <class Each>
void for_each_example(const PackedAttentionInputs& inputs, const Each& each) {
  const at::Tensor queries = inputs.query_offsets.cpu().contiguous(), keys = inputs.key_offsets.cpu().contiguous();
  const int64_t *const q = queries.const_data_ptr<int64_t>(), *const k = keys.const_data_ptr<int64_t>();
  for (int64_t b = 0; b + 1 < queries.numel(); ++b) each(q[b], q[b + 1] - q[b], k[b], k[b + 1] - k[b]);
}

PackedAttentionInputs on_host(const PackedAttentionInputs& in) {
  return {in.query, in.key, in.value, in.query_offsets.cpu(), in.key_offsets.cpu()};
}

// [heads, count, d] in the arithmetic of the op, each key head as often as query heads read it.
at::Tensor heads_first(const at::Tensor& x, int64_t first, int64_t count, int64_t heads, at::ScalarType type) {
  const at::Tensor part = x.narrow(0, first, count).transpose(0, 1).to(type);
  return part.size(0) == heads ? part : part.repeat_interleave(heads / part.size(0), 0);
}

at::ScalarType compute_type(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// Scaled scores [heads, queries, keys], -infinity where a query does not see a key.
at::Tensor scores_of(const at::Tensor& q, const at::Tensor& k, const PackedAttentionOptions& options) {
  const at::Tensor scores = at::matmul(q, k.transpose(1, 2)) * options.scale;
  if (!options.causal) return scores;
  const int64_t queries = q.size(1), keys = k.size(1);
  const auto index = q.options().dtype(at::kLong);
  const at::Tensor hidden = at::arange(keys, index).unsqueeze(0) > at::arange(keys - queries, keys, index).unsqueeze(1);
  return scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
}

}  // namespace

PackedAttentionResult packed_attention_forward_reference(const PackedAttentionInputs& inputs, const PackedAttentionOptions& options) {
  check_attention_offsets(on_host(inputs), options.causal);
  const int64_t heads = inputs.query.size(1);
  const at::ScalarType type = compute_type(inputs.query);
  at::Tensor output = at::empty_like(inputs.query, at::MemoryFormat::Contiguous);
  at::Tensor logsumexp = at::empty({heads, inputs.query.size(0)}, inputs.query.options().dtype(type));
  for_each_example(inputs, [&](int64_t q, int64_t queries, int64_t k, int64_t keys) {
    if (queries == 0) return;
    const at::Tensor scores =
        scores_of(heads_first(inputs.query, q, queries, heads, type), heads_first(inputs.key, k, keys, heads, type), options);
    output.narrow(0, q, queries).copy_(at::matmul(scores.softmax(-1), heads_first(inputs.value, k, keys, heads, type)).transpose(0, 1));
    logsumexp.narrow(1, q, queries).copy_(scores.logsumexp(-1));
  });
  return {output, logsumexp};
}

void packed_attention_backward_reference(const PackedAttentionInputs& inputs, const PackedAttentionSaved& saved,
                                         const PackedAttentionOptions& options, const PackedAttentionGradients& gradients) {
  check_attention_offsets(on_host(inputs), options.causal);
  const int64_t heads = inputs.query.size(1), key_heads = inputs.key.size(1);
  const at::ScalarType type = compute_type(inputs.query);
  // [heads, keys, d] -> [keys, key_heads, d], summed over the query heads of a key head.
  const auto by_key_head = [&](const at::Tensor& x) {
    return x.view({key_heads, heads / key_heads, x.size(1), x.size(2)}).sum(1).transpose(0, 1);
  };
  for_each_example(inputs, [&](int64_t q, int64_t queries, int64_t k, int64_t keys) {
    const at::Tensor query = heads_first(inputs.query, q, queries, heads, type), key = heads_first(inputs.key, k, keys, heads, type);
    const at::Tensor value = heads_first(inputs.value, k, keys, heads, type),
                     grad = heads_first(saved.grad_output, q, queries, heads, type);
    const at::Tensor delta = (grad * heads_first(saved.output, q, queries, heads, type)).sum(-1, true);
    const at::Tensor weights = (scores_of(query, key, options) - saved.logsumexp.narrow(1, q, queries).unsqueeze(2)).exp();
    const at::Tensor grad_scores = weights * (at::matmul(grad, value.transpose(1, 2)) - delta) * options.scale;
    gradients.query.narrow(0, q, queries).copy_(at::matmul(grad_scores, key).transpose(0, 1));
    gradients.key.narrow(0, k, keys).copy_(by_key_head(at::matmul(grad_scores.transpose(1, 2), query)));
    gradients.value.narrow(0, k, keys).copy_(by_key_head(at::matmul(weights.transpose(1, 2), grad)));
  });
}

}  // namespace adatape::ops
