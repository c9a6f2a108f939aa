// Which devices the CUDA kernels serve, with a driver that answers as the test says: no GPU is needed.
#include "adatape/ops/cuda_architecture.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include <tuple>

#include "adatape/ops/cuda_kernels.h"
#include "tests/cuda.h"

namespace adatape::ops {
namespace {

using FourTensors = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

int times_asked = 0;

// Device 0 is an A100, device 1 an H100, device 2 a B200.
int major_of(int device) {
  ++times_asked;
  return device == 0 ? 8 : device == 1 ? 9 : 10;
}

TEST(CudaArchitectureTest, KernelsServeDevicesFromCapabilityNineOnAndEachIsAskedOnce) {
  if (kHasCuda) GTEST_SKIP() << "the kernels of this machine's device are loaded";
  const c10::Device old(at::kCUDA, 0), newer(at::kCUDA, 1), newest(at::kCUDA, 2);
  EXPECT_FALSE(has_cuda_kernels_on(newer)) << "nothing is loaded";
  CudaKernels loaded;
  loaded.residual_norm = [](const at::Tensor& x, const at::Tensor&, const at::Tensor&, const at::Tensor&, double, const RowSplit&, bool) {
    return FourTensors(x, x, x, x);
  };
  set_cuda_kernels(loaded);
  EXPECT_FALSE(has_cuda_kernels_on(newer)) << "nobody can be asked";
  times_asked = 0;
  const CudaMajor before = set_cuda_major(major_of);
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(has_cuda_kernels_on(old));
    EXPECT_TRUE(has_cuda_kernels_on(newer));
    EXPECT_TRUE(has_cuda_kernels_on(newest));
    EXPECT_FALSE(has_cuda_kernels_on(at::kCPU));
  }
  EXPECT_EQ(times_asked, 3);
  set_cuda_kernels({});
  EXPECT_FALSE(has_cuda_kernels_on(newer));
  EXPECT_TRUE(set_cuda_major(before) == major_of);
}

}  // namespace
}  // namespace adatape::ops
