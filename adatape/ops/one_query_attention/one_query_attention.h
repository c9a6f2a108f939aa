// Attention of one query an example whose keys and values are never made: both projections move from the keys to the query's side.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace adatape::ops {

// Projections of keys and values: key and value [heads x d, D], value_bias [heads x d], of any strides. A bias of the keys adds the same to
// all scores of a query, which the softmax does not see.
struct KeyValueWeights {
  at::Tensor key, value, value_bias;
};

// True where the kernel serves: float32 on the CPU, and no plain calls asked for.
bool has_one_query_attention(const at::Tensor& query, const at::Tensor& x);

// For head h of an example with tokens x_i:
//
//   score_i = scale q_h . (K_h x_i) = scale (K_h^T q_h) . x_i,   out_h = sum_i softmax(score)_i (V_h x_i + b_h) = V_h (sum_i
//   softmax(score)_i x_i) + b_h
//
// so that the products with K and V have a row an example instead of one a token. query [B, heads x d], x [T, D], both float32 on the CPU;
// offsets [B + 1] from 0 to T, every example with one token at least -> [B, heads x d]. Differentiable in all tensors; a gradient asked for
// with create_graph is made of plain calls. Results do not depend on the number of threads; an example's not on the others.
// FLOPs: 4 D heads a token, 4 D heads d an example. vector_bytes: 0 the widest of the machine, else 32 or 64. Throws Error on what does not
// fit.
at::Tensor one_query_attention(const at::Tensor& query, const at::Tensor& x, const KeyValueWeights& weights,
                               const std::vector<int64_t>& offsets, int64_t heads, double scale, int vector_bytes = 0);

}  // namespace adatape::ops
