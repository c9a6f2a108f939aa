// For tests that need a GPU.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

#include "adatape/core/device.h"

namespace adatape {

// Looked for before any test runs: torch remembers for good what it answered when it was first asked for CUDA.
inline const bool kHasCuda = parse_device("auto").is_cuda();

// In SetUp: skips where no GPU answers, and fails if ADATAPE_REQUIRE_CUDA says that one should.
inline void need_cuda() {
  if (kHasCuda) return;
  if (std::getenv("ADATAPE_REQUIRE_CUDA") != nullptr) FAIL() << "ADATAPE_REQUIRE_CUDA is set, but no CUDA device answers";
  GTEST_SKIP() << "no CUDA device answers here";
}

}  // namespace adatape
