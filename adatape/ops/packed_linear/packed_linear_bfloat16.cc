// packed_linear with factors of 16 bits: the processor multiplies pairs of bfloat16 and adds them to float32 sums.
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <ATen/core/Tensor.h>

#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/packed_linear/packed_linear.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,avx512bf16,prefer-vector-width=512")
#include "adatape/ops/packed_linear/packed_linear_loops.h"

namespace adatape::ops {
namespace cpu {
namespace {

struct HalfFactors {
  using S = Simd<16>;
  using Element = uint16_t;
  static int64_t depth(int64_t in) { return (in + 1) / 2 * 2; }

  template <int kTileRows, int kVectors>
  static ADATAPE_ALWAYS_INLINE void sums_of(int64_t in, const uint16_t* a, int64_t stride, const uint16_t* panel,
                                            S::Floats (&sums)[kTileRows][kVectors]) {
    __m512bh column[kVectors];
    for (int64_t p = 0; p < in; p += 2) {
      if constexpr (kTileRows < S::kRows) expect_ahead<2 * S::kPanel * sizeof(Element)>(panel + p * S::kPanel);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) column[v] = (__m512bh)_mm512_loadu_si512(panel + p * S::kPanel + v * 2 * S::kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kTileRows; ++i) {
        int32_t pair;
        std::memcpy(&pair, a + i * stride + p, sizeof(pair));
        const __m512bh factor = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[i][v] = (S::Floats)_mm512_dpbf16_ps((__m512)sums[i][v], factor, column[v]);
      }
    }
  }
  static ADATAPE_ALWAYS_INLINE void store(uint16_t* to, const S::Floats& x, int64_t count) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)x);
    std::memcpy(to, &rounded, static_cast<size_t>(count >= S::kLanes ? S::kLanes : count) * sizeof(uint16_t));
  }
};

void left(const LinearTask& task, int64_t begin, int64_t rows, int64_t stride, void* to) {
  left_factor<HalfFactors>(task, begin, rows, stride, static_cast<uint16_t*>(to));
}
void finish(const LinearTask& task, const PackedWeight& weight, int64_t begin, int64_t rows, const void* a, int64_t stride, int64_t first,
            int64_t last) {
  finish_rows<HalfFactors>(task, weight, begin, rows, a, stride, first, last);
}
void widen(const LinearTask& task, int64_t rows, const void* a, int64_t stride, void* to, int64_t to_stride) {
  widen_rows<HalfFactors>(task, rows, a, stride, to, to_stride);
}

}  // namespace

const LinearSteps kBfloat16Steps = {left, finish, widen};

}  // namespace cpu

bool has_bfloat16_products() { return cpu::has_avx512() && __builtin_cpu_supports("avx512bf16"); }

}  // namespace adatape::ops
#pragma GCC pop_options

#else
#include "adatape/ops/packed_linear/packed_linear_loops.h"

namespace adatape::ops {
namespace cpu {
const LinearSteps kBfloat16Steps = {};
}  // namespace cpu

bool has_bfloat16_products() { return false; }

}  // namespace adatape::ops
#endif
