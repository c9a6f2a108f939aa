// Attention over packed tokens: each example's queries see that example's keys alone, read where they lie.
// Source: arXiv 1706.03762, equation 1; the backward from the saved logsumexp: arXiv 2205.14135, appendix B.2.
#pragma once

#include <ATen/core/Tensor.h>

#include <tuple>

namespace adatape::ops {

struct PackedAttentionOptions {
  bool causal = false;  // query i of an example sees its keys 0 .. (keys - queries + i): the queries are the last ones
  double scale = 1;     // of the scores, before the softmax
};

// Output [Tq, heads, d] (differentiable) and logsumexp [heads, Tq] of each query's scaled scores (what the backward needs; no gradient).
using PackedAttentionResult = std::tuple<at::Tensor, at::Tensor>;

// Registered as torch.ops.adatape.packed_attention:
//
//   packed_attention(Tensor query, Tensor key, Tensor value, Tensor query_offsets, Tensor key_offsets, *, bool causal=False, float
//   scale=1.0)
//     -> (Tensor output, Tensor logsumexp)
//
// query         [Tq, heads, d] floating; key, value [Tk, key_heads, d] of its dtype; key_heads divides heads, query head h reads key head
//               h / (heads / key_heads). Strided views (of a fused projection, say) are read in place if the last stride is 1, else copied.
// query_offsets, key_offsets: int64 [B + 1] on the tokens' device, from 0 to Tq and Tk, never falling. An example may have keys without
//               queries, but not queries without keys, nor, if causal, more queries than keys.
//
// CPU float32: a kernel of its own, AVX-512, AVX2 or plain, picked at run time; threads share out (example, key head, part of the queries).
// Everything else: plain ATen calls, example by example; packed_attention_kernel_name tells which one a call gets.
// Saved for the backward: inputs and outputs. Cost: 4 d FLOPs a query-key pair and head, the backward 10 d; causal pairs hidden in blocks
// of 48 queries are skipped. Throws Error on shapes, dtypes or offsets that do not fit, naming both.
PackedAttentionResult packed_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                       const at::Tensor& query_offsets, const at::Tensor& key_offsets,
                                       const PackedAttentionOptions& options);

// The same for tokens that attend to each other, from one projection: its gradient comes as one tensor too, nothing is split or joined.
//
//   packed_self_attention(Tensor qkv, Tensor offsets, *, bool causal=False, float scale=1.0) -> (Tensor output, Tensor logsumexp)
//
// qkv [T, 3, heads, d] floating: query, key and value of each token.
PackedAttentionResult packed_self_attention(const at::Tensor& qkv, const at::Tensor& offsets, const PackedAttentionOptions& options);

// packed_self_attention's output alone, without a gradient, float32 on the CPU with bfloat16 factors in both products: what goes with
// weights packed as bfloat16. Throws Error where has_bfloat16_products() (ops/packed_linear) is false.
at::Tensor packed_self_attention_bfloat16(const at::Tensor& qkv, const at::Tensor& offsets, const PackedAttentionOptions& options);

}  // namespace adatape::ops
