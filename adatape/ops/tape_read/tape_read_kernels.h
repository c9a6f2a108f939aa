// The kernels behind adatape::tape_read: what the dispatcher picks from, and what tests and benchmarks compare.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>

#include "adatape/ops/tape_read/tape_read.h"

namespace adatape::ops {

// The tensors of a reading, as tape_read.h describes them.
struct TapeReadInputs {
  at::Tensor query;                        // [B, D]
  at::Tensor bank;                         // [R, D] packed, [M, D] shared
  std::optional<at::Tensor> bank_offsets;  // [B + 1] int64: packed
  at::Tensor norm_weight, norm_bias;       // [D]
  std::optional<at::Tensor> thresholds;    // [B]
  std::optional<at::Tensor> step_limits;   // [B] int64
  std::optional<at::Tensor> bank_mask;     // bool [R] or [B, M]
  std::optional<at::Tensor> order;         // int64 [R] or [B, M]
  std::optional<at::Tensor> query_offset;  // [B, d]
};

// What the backward needs: the inputs that have a gradient, which rows were read with which weights, and the gradients that came. Values,
// statistics and queries are computed again from the rows read, so nothing of size O(R D) lives between forward and backward.
struct TapeReadBackwardInputs {
  std::optional<at::Tensor> grad_tokens;   // [B, T, D]; none = zero
  std::optional<at::Tensor> grad_weights;  // [B, T, K]
  std::optional<at::Tensor> grad_ponder;   // [B]
  at::Tensor query;                        // [B, D]
  at::Tensor bank;                         // [R, D] packed, [M, D] shared
  std::optional<at::Tensor> bank_offsets;  // [B + 1] int64: packed
  at::Tensor norm_weight, norm_bias;       // [D]
  at::Tensor weights;                      // [B, T, K]
  at::Tensor indices;                      // [B, T, K] int64
  at::Tensor lengths;                      // [B] int64
  std::optional<at::Tensor> query_offset;  // [B, d]
};

struct TapeReadBackwardOptions {
  int64_t key_width = 0;
  bool fixed_order = false;  // the reading had an `order`: weights are constants
  std::string query_update = "average";
  std::string ponder = "entropy";
  double norm_epsilon = 1e-6;
};

// Gradients of query, bank, norm_weight, norm_bias, in their shapes and dtypes.
using TapeReadGradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// Plain ATen: every device and floating dtype; half and bfloat16 are computed in float. The oracle of the tests.
TapeReadResult tape_read_forward_reference(const TapeReadInputs& inputs, const TapeReadOptions& options);
TapeReadGradients tape_read_backward_reference(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options);

// Direct loops for float and double on the CPU.
TapeReadResult tape_read_forward_cpu(const TapeReadInputs& inputs, const TapeReadOptions& options);
TapeReadGradients tape_read_backward_cpu(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options);

// Kernels for float, half and bfloat16 on the GPU (sm_90), in a library of their own: libadatape_cuda.so, loaded with the first CUDA
// device. What they do not serve (an `order`, many steps or rows a step, wide keys) they pass on to the reference. They never wait for the
// device, so values are not checked: offsets, limits and indices out of range are clamped, which reads wrong rows but none out of bounds.
TapeReadResult tape_read_forward_cuda(const TapeReadInputs& inputs, const TapeReadOptions& options);
TapeReadGradients tape_read_backward_cuda(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options);

inline bool tape_read_cuda_serves_dtype(at::ScalarType dtype) {
  return dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16;
}

// How the dispatcher finds them, and what is null until that library is loaded.
struct TapeReadCudaKernels {
  TapeReadResult (*forward)(const TapeReadInputs&, const TapeReadOptions&) = nullptr;
  TapeReadGradients (*backward)(const TapeReadBackwardInputs&, const TapeReadBackwardOptions&) = nullptr;
};
const TapeReadCudaKernels& tape_read_cuda_kernels();
void set_tape_read_cuda_kernels(const TapeReadCudaKernels& kernels);

// Which kernel the dispatcher runs for a bank on this device and of this dtype: "cpu", "cuda" (packed banks whose examples all have 512
// rows or more; else the reference) or "reference". What really ran: ops/kernel_record.h.
std::string tape_read_kernel_name(c10::Device device, at::ScalarType dtype);

// Whether each example of a packed bank has the 512 rows that the kernels on CUDA are given: the shortest one decides. Offsets on a device
// are waited for, where neither the average nor a single example tells.
bool tape_read_rows_suffice(const at::Tensor& bank_offsets, int64_t bank_rows);

// The arithmetic of a dtype, which is also the dtype of weights, ponder and halting: double for double, else float.
inline at::ScalarType tape_read_compute_type(at::ScalarType dtype) { return dtype == at::kDouble ? at::kDouble : at::kFloat; }

// Throws Error unless bank_offsets (int64 [B + 1], on the host) starts at 0, never falls and ends at `rows`.
void check_bank_offsets(const at::Tensor& bank_offsets, int64_t rows);

// Throws Error unless every step limit (int64, on the host) lies in 0 .. max_steps.
void check_step_limits(const at::Tensor& step_limits, int64_t max_steps);

// Throws Error unless `order` (int64, on the host) holds for each example a permutation of its rows.
void check_order(const at::Tensor& order, const std::optional<at::Tensor>& bank_offsets);

// Throws Error unless `lengths` lie in 0 .. T and `indices` [B, T, K] (int64, on the host) below each example's number of rows.
void check_readings(const at::Tensor& indices, const at::Tensor& lengths, const std::optional<at::Tensor>& bank_offsets, int64_t bank_rows);

}  // namespace adatape::ops
