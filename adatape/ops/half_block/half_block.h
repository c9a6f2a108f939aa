// The parts of a transformer block on CUDA in bfloat16, each with its gradient: what nn/encoder_block calls while products are made in
// bfloat16 (nn/mixed_precision.h). Weights stay float32 tensors, the masters that an optimizer moves; gradients of weights are float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

#include "adatape/ops/cuda_kernels.h"

namespace adatape::ops {

// Within the lifetime of one of these (of this thread), half_products() is true and bfloat16 copies of weights are kept: a weight is
// converted once, however often it is used. Weights must not change meanwhile.
class HalfScope {
 public:
  HalfScope();
  ~HalfScope();
  HalfScope(const HalfScope&) = delete;
  HalfScope& operator=(const HalfScope&) = delete;
};
bool half_products();
at::Tensor half_copy(const at::Tensor& weight);  // bfloat16, from the scope's store where there is one

// Whether the functions below serve rows of `dim` on this device: has_cuda_kernels_on(it) (ops/cuda_architecture.h), and dim is a multiple
// of 8 up to 2048.
bool has_half_block(const at::Tensor& x, int64_t dim);

// (sum, normed rows of the first group, of the second): sum = x + branch, normed = LayerNorm(sum). x [rows, dim] float32 or bfloat16,
// branch bfloat16 or undefined (sum is x then), normed bfloat16, its rows in the groups that `split` says.
std::tuple<at::Tensor, at::Tensor, at::Tensor> residual_norm(const at::Tensor& x, const at::Tensor& branch, const at::Tensor& weight,
                                                             const at::Tensor& bias, double epsilon, const RowSplit& split = {});
// x + the rows of two groups put back into the pack's order. first, second: bfloat16; second may be undefined.
at::Tensor residual_add(const at::Tensor& x, const at::Tensor& first, const at::Tensor& second, const RowSplit& split);
// Sums over each example's rows, float32 [B, dim]. x float32 or bfloat16, offsets int64 [B + 1], example int64 [rows] (of each row).
at::Tensor segment_sums(const at::Tensor& x, const at::Tensor& offsets, const at::Tensor& example);
// x weight^T + bias (+ residual, without a gradient only). x bfloat16 [rows, in], weight float32 [out, in].
at::Tensor half_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& residual = {});
// GELU between two linear layers; tanh: its usual approximation, done within the products, else the exact form.
at::Tensor half_mlp(const at::Tensor& x, const at::Tensor& weight_1, const at::Tensor& bias_1, const at::Tensor& weight_2,
                    const at::Tensor& bias_2, bool tanh, const at::Tensor& residual = {});
// Self-attention by variable-length flash attention: qkv bfloat16 [total, 3, heads, head_dim], cumulative_lengths int32 [B + 1].
at::Tensor half_self_attention(const at::Tensor& qkv, const at::Tensor& cumulative_lengths, int64_t longest, bool causal, double scale);

}  // namespace adatape::ops
