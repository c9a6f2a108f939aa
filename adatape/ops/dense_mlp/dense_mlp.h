// Feed-forward networks on the CPU in one call each way, where weights are not packed: rows pass through both layers while they are in the
// cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace adatape::ops {

enum class MlpActivation {
  kTanhGelu,
  kGated,  // a sigmoid(g) of the first layer's halves a, g
};

// Layers of one network, or of several: the tensors then have a first dimension more, [groups, ...].
struct MlpWeights {
  at::Tensor expand, expand_bias;      // [m or, gated, 2 m, D] and its bias; a bias may be undefined
  at::Tensor contract, contract_bias;  // [D, m], [D]
};

// True where dense_mlp pays and no PlainCalls lives, as has_dense_linear says of its layers.
bool has_dense_mlp(const at::Tensor& x, const MlpWeights& weights);

// x [rows, D] -> [rows, D]: expand, activation, contract. Rows offsets[g] .. offsets[g + 1] are group g's and may be none; empty: one
// network. All float32 on the CPU, of any strides. Differentiable in x and the weights, with create_graph by plain calls. A result does not
// depend on the number of threads. Throws Error on shapes or dtypes that do not fit.
at::Tensor dense_mlp(const at::Tensor& x, const std::vector<int64_t>& offsets, const MlpWeights& weights, MlpActivation activation);

// The same of x.index_select(0, rows), without a gradient and without that copy: rows may repeat and are within x.
at::Tensor dense_mlp_of_rows(const at::Tensor& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& offsets,
                             const MlpWeights& weights, MlpActivation activation);

}  // namespace adatape::ops
