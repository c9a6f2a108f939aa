// Small matrix products and softmax for the CPU kernel of packed attention, on vectors of kLanes floats: 8 is an AVX2 register, 16 an
// AVX-512 one. Every sum runs in an order that depends on sizes alone, so that a result does not depend on threads or batch mates.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "adatape/ops/cpu_simd.h"

namespace adatape::ops::cpu {

// Queries of a block: enough to use what was packed again, few enough that their scores stay in the second-level cache.
ADATAPE_ALWAYS_INLINE int64_t block_rows(int64_t keys) { return keys <= 1024 ? 48 : 12; }

// Memory of one thread, reused from task to task; pieces start at cache lines.
class Scratch {
 public:
  ADATAPE_ALWAYS_INLINE void begin(int64_t floats) {
    if (static_cast<int64_t>(memory_.size()) < floats) memory_.resize(floats);
    const size_t past = reinterpret_cast<size_t>(memory_.data()) % 64;
    next_ = memory_.data() + (past == 0 ? 0 : (64 - past) / sizeof(float));
  }
  ADATAPE_ALWAYS_INLINE float* take(int64_t floats) {
    float* const piece = next_;
    next_ += rounded(floats);
    return piece;
  }
  static ADATAPE_ALWAYS_INLINE int64_t rounded(int64_t floats) { return (floats + 15) / 16 * 16; }
  static ADATAPE_ALWAYS_INLINE int64_t needed(std::initializer_list<int64_t> pieces) {
    int64_t sum = 16;
    for (const int64_t piece : pieces) sum += rounded(piece);
    return sum;
  }

 private:
  std::vector<float> memory_;
  float* next_ = nullptr;
};

// A tensor [tokens, heads, d]: element f of token t and head h at data + t * row + h * head + f.
template <class T>
struct Tokens {
  T* data;
  int64_t row, head;
};

// All pointers stand at the task's first token and head.
struct Task {
  int64_t heads, width, queries, keys;  // heads: query heads of this key head
  int64_t first_visible;                // causal: keys that the first query sees; else -1
  bool few;                             // the example has few queries: packed_attention_few_queries.h
  float scale;
  Tokens<const float> query, key, value;
  int64_t logsumexp_head;

  ADATAPE_ALWAYS_INLINE int64_t visible(int64_t query_index) const { return first_visible < 0 ? keys : first_visible + query_index; }
};
struct ForwardTask : Task {
  Tokens<float> output;
  float* logsumexp;
};
struct BackwardTask : Task {
  Tokens<const float> output, grad_output;
  const float* logsumexp;
  Tokens<float> grad_query, grad_key, grad_value;
};
// packed_attention_bfloat16.cc: the forward with bfloat16 factors in both products. Only where has_bfloat16_products().
void run_bfloat16(const ForwardTask& task, Scratch& scratch);

// Rows of a matrix in memory: row i at data + i * stride.
struct Rows {
  const float* data;
  int64_t stride;
};

// x [rows, columns] as panels [columns / kPanel][rows][kPanel], zeros behind the last column.
template <class S>
ADATAPE_ALWAYS_INLINE void pack(const Rows& x, int64_t rows, int64_t columns, float* panels) {
  for (int64_t c = 0; c < columns; c += S::kPanel, panels += rows * S::kPanel) {
    const int64_t width = columns - c < S::kPanel ? columns - c : S::kPanel;
    for (int64_t r = 0; r < rows; ++r) {
      const float* const from = x.data + r * x.stride + c;
      float* const to = panels + r * S::kPanel;
      if (width == S::kPanel) {
        std::memcpy(to, from, S::kPanel * sizeof(float));
      } else {
        std::memset(to, 0, S::kPanel * sizeof(float));
        copy_floats(from, width, to);
      }
    }
  }
}

// The transpose of x [rows, columns] as panels [rows / kPanel][columns][kPanel], zeros behind the last row.
template <class S>
ADATAPE_ALWAYS_INLINE void pack_transposed(const Rows& x, int64_t rows, int64_t columns, float* panels) {
  for (int64_t r = 0; r < rows; r += S::kPanel, panels += columns * S::kPanel) {
    const int64_t count = rows - r < S::kPanel ? rows - r : S::kPanel;
    if (count < S::kPanel) std::memset(panels, 0, static_cast<size_t>(columns) * S::kPanel * sizeof(float));
    int64_t i = 0;
    for (; i + 4 <= count && columns % 4 == 0; i += 4) {
      for (int64_t c = 0; c < columns; c += 4) turn(x.data + (r + i) * x.stride + c, x.stride, panels + c * S::kPanel + i, S::kPanel);
    }
    for (; i < count; ++i) {
      const float* const from = x.data + (r + i) * x.stride;
      for (int64_t c = 0; c < columns; ++c) panels[c * S::kPanel + i] = from[c];
    }
  }
}

// One tile of c (+)= a b: kTileRows rows of a, whose element (i, p) is a[i * row + p * step], and kVectors vectors of a panel.
template <class S, int kTileRows, int kVectors>
ADATAPE_ALWAYS_INLINE void tile(int64_t depth, const float* a, int64_t row, int64_t step, const float* panel, float* c, int64_t c_stride,
                                bool add) {
  typename S::Floats sums[kTileRows][kVectors] = {}, column[kVectors];
  for (int64_t p = 0; p < depth; ++p) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) S::load(column[v], panel + p * S::kPanel + v * S::kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) {
      const float factor = a[i * row + p * step];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[i][v] += column[v] * factor;
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      float* const to = c + i * c_stride + v * S::kLanes;
      if (add) {
        S::load(column[0], to);
        sums[i][v] += column[0];
      }
      S::store(to, sums[i][v]);
    }
  }
}

template <class S, int kVectors>
ADATAPE_ALWAYS_INLINE void multiply_panel(int64_t m, int64_t depth, const float* a, int64_t row, int64_t step, const float* panel, float* c,
                                          int64_t c_stride, bool add) {
  int64_t i = 0;
  for (; i + S::kRows <= m; i += S::kRows)
    tile<S, S::kRows, kVectors>(depth, a + i * row, row, step, panel, c + i * c_stride, c_stride, add);
  // One to three rows cost what four do: they are done together with rows that are done already, which come out the same.
  if (!add && m >= 4 && m - i < 4 && i < m) i = m - 4;
  for (; i + 4 <= m; i += 4) tile<S, 4, kVectors>(depth, a + i * row, row, step, panel, c + i * c_stride, c_stride, add);
  for (; i < m; ++i) tile<S, 1, kVectors>(depth, a + i * row, row, step, panel, c + i * c_stride, c_stride, add);
}

// c [m, n] (+)= a b with the first `depth` rows of b, which lies in panels of panel_rows rows. Columns of c are written up to the end of
// the last vector; c_stride >= padded(n).
template <class S>
ADATAPE_ALWAYS_INLINE void multiply(int64_t m, int64_t n, int64_t depth, const float* a, int64_t row, int64_t step, const float* panels,
                                    int64_t panel_rows, float* c, int64_t c_stride, bool add) {
  for (int64_t column = 0; column < n; column += S::kPanel, panels += panel_rows * S::kPanel) {
    if (n - column > S::kLanes) {
      multiply_panel<S, 2>(m, depth, a, row, step, panels, c + column, c_stride, add);
    } else {
      multiply_panel<S, 1>(m, depth, a, row, step, panels, c + column, c_stride, add);
    }
  }
}

// scores [padded] -> put(j, e^(scale s - max)) of the first `visible` ones and of 0 behind them, a vector at a time. Returns the logsumexp;
// `sum` is what to divide by. scale > 0.
template <class S, class Put>
ADATAPE_ALWAYS_INLINE float exponentials(float* scores, int64_t visible, int64_t padded, float scale, float& sum, const Put& put) {
  using F = typename S::Floats;
  for (int64_t j = visible; j < padded; ++j) scores[j] = -std::numeric_limits<float>::infinity();
  F x, best = F{} - std::numeric_limits<float>::infinity(), sums = {};
  for (int64_t j = 0; j < padded; j += S::kLanes) {
    S::load(x, scores + j);
    best = x > best ? x : best;
  }
  const float max = max_of_lanes(best) * scale;
  for (int64_t j = 0; j < padded; j += S::kLanes) {
    S::load(x, scores + j);
    x = x * scale - max;
    exponential<S>(x);
    sums += x;
    put(j, x);
  }
  sum = sum_of_lanes(sums);
  return max + std::log(sum);
}

// scores -> weights, grad_weights -> gradient of the scaled product; 0 behind the visible ones. delta = grad_output . output.
template <class S>
ADATAPE_ALWAYS_INLINE void softmax_backward(float* scores, float* grad_weights, int64_t visible, int64_t padded, float scale,
                                            float logsumexp, float delta) {
  typename S::Floats s, g;
  for (int64_t j = 0; j < padded; j += S::kLanes) {
    S::load(s, scores + j);
    S::load(g, grad_weights + j);
    s = s * scale - logsumexp;
    exponential<S>(s);
    g = s * (g - delta) * scale;
    S::store(scores + j, s);
    S::store(grad_weights + j, g);
  }
  for (int64_t j = visible; j < padded; ++j) scores[j] = grad_weights[j] = 0;
}

}  // namespace adatape::ops::cpu
