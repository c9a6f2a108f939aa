// packed_attention's forward with factors of 16 bits: the processor multiplies pairs of bfloat16 and adds them to float32 sums. Queries,
// keys, values and the softmax's exponentials are rounded; its maximum, sum and logsumexp are float32.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "adatape/ops/cpu_clones.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,avx512bf16,prefer-vector-width=512")
#include "adatape/ops/packed_attention/packed_attention_cpu_loops.h"

namespace adatape::ops::cpu {
namespace {

using S = Simd<16>;

ADATAPE_ALWAYS_INLINE int64_t even(int64_t x) { return (x + 1) / 2 * 2; }

// 16 floats as bfloat16, rounded to nearest even.
ADATAPE_ALWAYS_INLINE __m256i rounded(const S::Floats& x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }

// x [rows, columns] -> rows of bfloat16, zeros from `columns` to `stride` (a multiple of 16).
void round_rows(const Rows& x, int64_t rows, int64_t columns, uint16_t* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < stride; c += S::kLanes) {
      S::Floats v;
      load_part<S>(v, x.data + r * x.stride + c, columns - c);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + r * stride + c), rounded(v));
    }
  }
}

// The right factor b [depth, columns] as panels [columns / 32][depth / 2][32][2]: two steps side by side. rounded_rows: b's rows.
void pack_pairs(const uint16_t* rows, int64_t stride, int64_t depth, int64_t columns, uint16_t* panels) {
  const int64_t pairs = even(depth) / 2;
  for (int64_t c = 0; c < columns; c += S::kPanel, panels += pairs * 2 * S::kPanel) {
    for (int64_t p = 0; p < pairs; ++p) {
      const uint16_t* const first = rows + 2 * p * stride + c;
      for (int half = 0; half < 2; ++half) {
        __m256i a = _mm256_setzero_si256(), b = a;
        if (c + 16 * half < columns) {
          a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + 16 * half));
          if (2 * p + 1 < depth) b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + stride + 16 * half));
        }
        const __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
        auto* const to = reinterpret_cast<__m256i*>(panels + (p * S::kPanel + 16 * half) * 2);
        _mm256_storeu_si256(to, _mm256_permute2x128_si256(low, high, 0x20));
        _mm256_storeu_si256(to + 1, _mm256_permute2x128_si256(low, high, 0x31));
      }
    }
  }
}

// The right factor x^T, x [rows, columns]: panels [rows / 32][columns / 2][32][2], zeros behind the last row. A row's pairs are 32 bits
// already.
void pack_transposed_pairs(const uint16_t* x, int64_t stride, int64_t rows, int64_t columns, uint16_t* panels) {
  const int64_t pairs = even(columns) / 2;
  for (int64_t r = 0; r < rows; r += S::kPanel, panels += pairs * 2 * S::kPanel) {
    const int64_t count = std::min<int64_t>(S::kPanel, rows - r);
    auto* const to = reinterpret_cast<uint32_t*>(panels);
    if (count < S::kPanel) std::memset(panels, 0, static_cast<size_t>(pairs * S::kPanel) * 4);
    for (int64_t i = 0; i < count; ++i) {
      const uint16_t* const from = x + (r + i) * stride;
      for (int64_t p = 0; p < pairs; ++p) std::memcpy(to + p * S::kPanel + i, from + 2 * p, 4);
    }
  }
}

template <int kTileRows, int kVectors>
ADATAPE_ALWAYS_INLINE void pair_tile(int64_t pairs, const uint16_t* a, int64_t stride, const uint16_t* panel, float* c, int64_t c_stride) {
  S::Floats sums[kTileRows][kVectors] = {};
  __m512bh column[kVectors];
  for (int64_t p = 0; p < pairs; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) column[v] = (__m512bh)_mm512_loadu_si512(panel + (p * S::kPanel + v * S::kLanes) * 2);
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) {
      int32_t pair;
      std::memcpy(&pair, a + i * stride + 2 * p, sizeof(pair));
      const __m512bh factor = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[i][v] = (S::Floats)_mm512_dpbf16_ps((__m512)sums[i][v], factor, column[v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) S::store(c + i * c_stride + v * S::kLanes, sums[i][v]);
  }
}

template <int kVectors>
ADATAPE_ALWAYS_INLINE void pair_panel(int64_t m, int64_t pairs, const uint16_t* a, int64_t stride, const uint16_t* panel, float* c,
                                      int64_t c_stride) {
  int64_t i = 0;
  for (; i + S::kRows <= m; i += S::kRows) pair_tile<S::kRows, kVectors>(pairs, a + i * stride, stride, panel, c + i * c_stride, c_stride);
  if (m >= 4 && m - i < 4 && i < m) i = m - 4;  // as in multiply_panel
  for (; i + 4 <= m; i += 4) pair_tile<4, kVectors>(pairs, a + i * stride, stride, panel, c + i * c_stride, c_stride);
  for (; i < m; ++i) pair_tile<1, kVectors>(pairs, a + i * stride, stride, panel, c + i * c_stride, c_stride);
}

// c [m, n] = a b with the first `pairs` pairs of steps of b, whose panels hold panel_pairs of them.
void multiply_pairs(int64_t m, int64_t n, int64_t pairs, const uint16_t* a, int64_t stride, const uint16_t* panels, int64_t panel_pairs,
                    float* c, int64_t c_stride) {
  for (int64_t column = 0; column < n; column += S::kPanel, panels += panel_pairs * 2 * S::kPanel) {
    if (n - column > S::kLanes) {
      pair_panel<2>(m, pairs, a, stride, panels, c + column, c_stride);
    } else {
      pair_panel<1>(m, pairs, a, stride, panels, c + column, c_stride);
    }
  }
}

// Exponentials of a block's scores as rows of bfloat16, and what to multiply their products by.
void softmax_rows(const ForwardTask& task, int64_t head, int64_t first, int64_t rows, int64_t padded, float* scores, int64_t stride,
                  uint16_t* weights, float* factor) {
  for (int64_t i = 0; i < rows; ++i) {
    float sum;
    uint16_t* const to = weights + i * stride;
    task.logsumexp[head * task.logsumexp_head + first + i] = exponentials<S>(
        scores + i * stride, task.visible(first + i), padded, task.scale, sum,
        [to](int64_t j, const S::Floats& x) ADATAPE_INLINE_LAMBDA { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + j), rounded(x)); });
    factor[i] = 1 / sum;
  }
}

}  // namespace

void run_bfloat16(const ForwardTask& task, Scratch& scratch) {
  const int64_t width = task.width, keys = task.keys, block = block_rows(keys);
  const int64_t scores_stride = S::padded(keys), out_stride = S::padded(width);
  // Pieces are counted in floats: half as many as bfloat16.
  const int64_t token_floats = out_stride / 2, weights_floats = scores_stride / 2;
  scratch.begin(Scratch::needed({keys * token_floats, keys * token_floats, scores_stride * token_floats, (keys + 1) * token_floats,
                                 block * token_floats, block * scores_stride, block * weights_floats, block * out_stride, block}));
  const auto halves = [&](int64_t floats) { return reinterpret_cast<uint16_t*>(scratch.take(floats)); };
  uint16_t *const key_rows = halves(keys * token_floats), *const value_rows = halves(keys * token_floats);
  uint16_t *const key_panels = halves(scores_stride * token_floats), *const value_panels = halves((keys + 1) * token_floats);
  uint16_t* const queries = halves(block * token_floats);
  float* const scores = scratch.take(block * scores_stride);
  uint16_t* const weights = halves(block * weights_floats);
  float *const out = scratch.take(block * out_stride), *const factor = scratch.take(block);
  round_rows({task.key.data, task.key.row}, keys, width, key_rows, out_stride);
  round_rows({task.value.data, task.value.row}, keys, width, value_rows, out_stride);
  pack_transposed_pairs(key_rows, out_stride, keys, width, key_panels);
  pack_pairs(value_rows, out_stride, keys, out_stride, value_panels);
  for (int64_t h = 0; h < task.heads; ++h) {
    for (int64_t first = 0; first < task.queries; first += block) {
      const int64_t rows = std::min(block, task.queries - first), seen = task.visible(first + rows - 1);
      const int64_t padded = (seen + S::kLanes - 1) / S::kLanes * S::kLanes;
      round_rows({task.query.data + first * task.query.row + h * task.query.head, task.query.row}, rows, width, queries, out_stride);
      multiply_pairs(rows, seen, even(width) / 2, queries, out_stride, key_panels, even(width) / 2, scores, scores_stride);
      softmax_rows(task, h, first, rows, padded, scores, scores_stride, weights, factor);
      multiply_pairs(rows, width, even(seen) / 2, weights, scores_stride, value_panels, even(keys) / 2, out, out_stride);
      for (int64_t i = 0; i < rows; ++i) {
        float* const to = task.output.data + (first + i) * task.output.row + h * task.output.head;
        for (int64_t c = 0; c < width; c += S::kLanes) {
          S::Floats v;
          S::load(v, out + i * out_stride + c);
          store_part<S>(to + c, v * factor[i], width - c);
        }
      }
    }
  }
}

}  // namespace adatape::ops::cpu
#pragma GCC pop_options

#else
#include "adatape/ops/packed_attention/packed_attention_cpu_loops.h"

namespace adatape::ops::cpu {
void run_bfloat16(const ForwardTask&, Scratch&) {}
}  // namespace adatape::ops::cpu
#endif
