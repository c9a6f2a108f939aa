// What libadatape_cuda.so offers to the operators of this library, which never links it: the table is empty until it is loaded
// (core/device.h).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace adatape::ops {

// Rows of a pack and where each goes once tokens are grouped: row i is row places[i] of the two groups one after the other.
struct RowSplit {
  at::Tensor places;  // int32 [rows] on the device; undefined: all rows as they lie, in the first group
  int64_t first = 0;  // rows of the first group
};

// Matrix products of bfloat16 with sums in float32, by cublasLt. All tensors are contiguous; x, y: activations; weight [out, in].
struct HalfForward {
  at::Tensor x, weight, bias;  // bfloat16 [rows, in], [out, in], [out]
  bool tanh_gelu = false;
  at::Tensor before_gelu;  // bfloat16 [rows, out] to be filled, where the backward needs it
  at::Tensor residual;     // bfloat16 [rows, out]: added; undefined: nothing
};

struct CudaKernels {
  // sum = x + branch (x where branch is undefined, the same tensor then), normed = LayerNorm(sum) in bfloat16, split by `split`; statistics
  // [rows, 2] float32 (mean, 1 / deviation), undefined unless `keep`. x: float32 or bfloat16 [rows, dim], branch bfloat16 [rows, dim].
  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> (*residual_norm)(const at::Tensor& x, const at::Tensor& branch,
                                                                              const at::Tensor& weight, const at::Tensor& bias,
                                                                              double epsilon, const RowSplit& split, bool keep) = nullptr;
  // Gradients of sum (in sum's dtype), of branch (bfloat16, undefined unless asked for), of weight and bias (float32).
  std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> (*residual_norm_backward)(
      const at::Tensor& grad_sum, const at::Tensor& grad_first, const at::Tensor& grad_second, const at::Tensor& sum,
      const at::Tensor& statistics, const at::Tensor& weight, const RowSplit& split, bool of_branch) = nullptr;
  // x + branch, the branch's rows in two groups. x: float32 or bfloat16.
  at::Tensor (*residual_add)(const at::Tensor& x, const at::Tensor& first, const at::Tensor& second, const RowSplit& split) = nullptr;
  // Rows of `grad` in bfloat16, split into the groups.
  std::tuple<at::Tensor, at::Tensor> (*split_rows)(const at::Tensor& grad, const RowSplit& split) = nullptr;

  // x[row] += table[row % table's rows]; x bfloat16 [rows, dim], table float32 or bfloat16 [period, dim], contiguous, dim a multiple of 8.
  void (*add_table)(at::Tensor& x, const at::Tensor& table) = nullptr;

  // Sums over the rows offsets[b] .. offsets[b + 1] - 1: float32 [B, dim]. x float32 or bfloat16, offsets int64 [B + 1].
  at::Tensor (*segment_sums)(const at::Tensor& x, const at::Tensor& offsets) = nullptr;

  at::Tensor (*half_forward)(const HalfForward& arguments) = nullptr;  // bfloat16 [rows, out]
  // grad [rows, out] times weight [out, in]: bfloat16 [rows, in]; with before_gelu [rows, in] times GELU's (tanh) derivative there, and
  // then the sum over rows too (float32 [in]).
  std::tuple<at::Tensor, at::Tensor> (*half_input_gradient)(const at::Tensor& grad, const at::Tensor& weight,
                                                            const at::Tensor& before_gelu) = nullptr;
  // transposed grad [rows, out] times x [rows, in]: float32 [out, in]; and, if asked, the sum of grad over rows (float32 [out]).
  std::tuple<at::Tensor, at::Tensor> (*half_weight_gradient)(const at::Tensor& grad, const at::Tensor& x, bool with_bias) = nullptr;
};

const CudaKernels& cuda_kernels();
bool has_cuda_kernels();
void set_cuda_kernels(const CudaKernels& kernels);  // called by libadatape_cuda.so alone

}  // namespace adatape::ops
