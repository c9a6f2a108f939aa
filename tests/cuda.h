// For tests that need a GPU.
#pragma once

#include <gtest/gtest.h>
#include <torch/types.h>

#include <cstdlib>
#include <limits>
#include <vector>

#include "adatape/core/device.h"

namespace adatape {

// Looked for before any test runs: torch remembers for good what it answered when it was first asked for CUDA.
inline const bool kHasCuda = parse_device("auto").is_cuda();

// The cases of a suite that needs a GPU; where none answers the first alone, which then skips for all.
template <class Case>
std::vector<Case> where_cuda_is(std::vector<Case> cases) {
  if (!kHasCuda && cases.size() > 1) cases.erase(cases.begin() + 1, cases.end());
  return cases;
}

// In SetUp: skips where no GPU answers, and fails if ADATAPE_REQUIRE_CUDA says that one should.
inline void need_cuda() {
  if (kHasCuda) return;
  if (std::getenv("ADATAPE_REQUIRE_CUDA") != nullptr) FAIL() << "ADATAPE_REQUIRE_CUDA is set, but no CUDA device answers";
  GTEST_SKIP() << "no CUDA device answers here";
}

// |got - expected| / |expected|, norms over all numbers; infinite where shapes differ.
inline double relative_error(const at::Tensor& got, const at::Tensor& expected) {
  if (!got.defined() || !expected.defined() || got.sizes() != expected.sizes()) return std::numeric_limits<double>::infinity();
  const auto whole = [](const at::Tensor& tensor) { return tensor.detach().to(at::kCPU).to(at::kDouble); };
  const double size = whole(expected).norm().item<double>(), error = (whole(got) - whole(expected)).norm().item<double>();
  return size > 0 ? error / size : error;
}

}  // namespace adatape
