// What the tests of ops/half_block share: a device, and random numbers that bfloat16 holds.
#pragma once

#include <c10/util/accumulate.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include "adatape/ops/half_block/half_block.h"
#include "tests/cuda.h"

namespace adatape::ops {

inline constexpr double kEpsilon = 1e-6;

class HalfBlock : public testing::Test {
 protected:
  void SetUp() override {
    need_cuda();
    if (kHasCuda) {
      ASSERT_TRUE(has_cuda_kernels()) << "a CUDA device answers, but libadatape_cuda.so is not loaded";
    }
    at::manual_seed(5);
  }
};

// N(0, 1). Of many numbers a part is drawn and repeated, out of step with the rows: drawing them all would take seconds.
inline at::Tensor drawn(at::IntArrayRef sizes) {
  constexpr int64_t kPart = 100'003;  // a prime
  const int64_t count = c10::multiply_integers(sizes);
  if (count <= kPart) return at::randn(sizes);
  return at::randn({kPart}).repeat({count / kPart + 1}).narrow(0, 0, count).view(sizes);
}

// float32 numbers that bfloat16 holds too.
inline at::Tensor half_valued(at::IntArrayRef sizes, double scale = 1) { return (drawn(sizes) * scale).to(at::kBFloat16).to(at::kFloat); }

}  // namespace adatape::ops
