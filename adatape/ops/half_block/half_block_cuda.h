// The functions of ops/cuda_kernels.h, as libadatape_cuda.so has them.
#pragma once

#include "adatape/ops/cuda_kernels.h"

namespace adatape::ops {

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> residual_norm_cuda(const at::Tensor& x, const at::Tensor& branch,
                                                                              const at::Tensor& weight, const at::Tensor& bias,
                                                                              double epsilon, const RowSplit& split, bool keep);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> residual_norm_backward_cuda(
    const at::Tensor& grad_sum, const at::Tensor& grad_first, const at::Tensor& grad_second, const at::Tensor& sum,
    const at::Tensor& statistics, const at::Tensor& weight, const RowSplit& split, bool of_branch);
at::Tensor residual_add_cuda(const at::Tensor& x, const at::Tensor& first, const at::Tensor& second, const RowSplit& split);
std::tuple<at::Tensor, at::Tensor> split_rows_cuda(const at::Tensor& x, const RowSplit& split);

// grad [rows, dim] becomes the gradient before tanh GELU, whose input was `before`; its sum over rows (float32).
at::Tensor gelu_gradient_cuda(at::Tensor& grad, const at::Tensor& before);
void add_table_cuda(at::Tensor& x, const at::Tensor& table);
at::Tensor segment_sums_cuda(const at::Tensor& x, const at::Tensor& offsets);

at::Tensor half_forward_cuda(const HalfForward& arguments);
std::tuple<at::Tensor, at::Tensor> half_input_gradient_cuda(const at::Tensor& grad, const at::Tensor& weight,
                                                            const at::Tensor& before_gelu);
std::tuple<at::Tensor, at::Tensor> half_weight_gradient_cuda(const at::Tensor& grad, const at::Tensor& x, bool with_bias);

}  // namespace adatape::ops
