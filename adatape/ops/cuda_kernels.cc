#include "adatape/ops/cuda_kernels.h"

namespace adatape::ops {
namespace {
CudaKernels& table() {
  static CudaKernels kernels;
  return kernels;
}
}  // namespace

const CudaKernels& cuda_kernels() { return table(); }
bool has_cuda_kernels() { return table().residual_norm != nullptr; }
void set_cuda_kernels(const CudaKernels& kernels) { table() = kernels; }

}  // namespace adatape::ops
