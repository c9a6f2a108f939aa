// Linear layers of training on the CPU: y = x W^T + b and its gradients by products of this library's own, in one thread or many.
// The BLAS that LibTorch brings keeps to 8 floats an instruction on processors that are not its maker's; these take 16 where there are, and
// with 8 are as fast.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace adatape::ops {

// True where dense_linear pays and no PlainCalls lives: float32 on an x86-64 CPU that is not Intel's, x [rows, in] with rows enough to pay
// for the weight's reordering.
bool has_dense_linear(const at::Tensor& x, const at::Tensor& weight);

// x [rows, in], weight [out, in], bias [out] or undefined, all float32 on the CPU, of any strides -> [rows, out].
// Differentiable in all three; a gradient asked for with create_graph is made of plain calls, so that it can be differentiated again.
// A result does not depend on the number of threads. Throws Error on shapes or dtypes that do not fit.
at::Tensor dense_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace adatape::ops
