// LayerNorm over the last dimension for the CPU: short rows in one call forward, and the gradients of input, weight and bias in one pass.
#pragma once

#include <ATen/core/Tensor.h>

namespace adatape::ops {

// True where the kernel serves: float32 on the CPU, and no plain calls asked for.
bool has_layer_norm(const at::Tensor& x, const at::Tensor& weight);

// (x - mean) / sqrt(variance + epsilon) x weight + bias over the last dimension. x [..., dim], weight [dim], bias [dim] or undefined, all
// float32 on the CPU -> the shape of x. Differentiable, also twice (then by plain calls). A row's bits depend on nothing but the row, those
// of the gradients of weight and bias not on the number of threads. Source: arXiv 1607.06450.
// vector_bytes: 0 the widest of the machine, else 32 or 64.
at::Tensor layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon, int vector_bytes = 0);

}  // namespace adatape::ops
