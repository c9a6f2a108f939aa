// The loops of packed_linear for one kind of factors: `Factors` has the vectors (Simd), the element of both factors and the tile of sums.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "adatape/ops/cpu_simd.h"
#include "adatape/ops/packed_linear/packed_linear.h"

namespace adatape::ops::cpu {

// Rows of x a thread works on at a time: with S/16's wide activations they fill a second-level cache of a megabyte; in fewer, half of one
// picture's tokens would read the weights twice.
constexpr int64_t kBlockRows = 120;

// One call's operands; pointers stand at their first row, `rows` picks rows of x, residual and out.
struct LinearTask {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const int64_t* rows = nullptr;
  const float *norm_weight = nullptr, *norm_bias = nullptr;
  float epsilon = 0;
  const PackedWeight* weight = nullptr;
  Activation activation = Activation::kNone;
  const float* residual = nullptr;
  float* out = nullptr;
  int64_t out_stride = 0;                // of residual and out
  const PackedWeight* second = nullptr;  // packed_mlp: the product behind the activation
};

// Small tiles, where few rows wait for the weights that pass by, ask for their panel's lines a page ahead.
template <int kBytes>
ADATAPE_ALWAYS_INLINE void expect_ahead(const void* panel) {
  constexpr int64_t kAhead = 4096;
  for (int line = 0; line < kBytes; line += 64) __builtin_prefetch(static_cast<const char*>(panel) + kAhead + line);
}

// 32-bit factors.
template <int kLanes>
struct FloatFactors {
  using S = Simd<kLanes>;
  using Element = float;
  static int64_t depth(int64_t in) { return in; }  // elements of a packed row of the left factor

  template <int kTileRows, int kVectors>
  static ADATAPE_ALWAYS_INLINE void sums_of(int64_t in, const float* a, int64_t stride, const float* panel,
                                            typename S::Floats (&sums)[kTileRows][kVectors]) {
    typename S::Floats column[kVectors];
    for (int64_t p = 0; p < in; ++p) {
      if constexpr (kTileRows < S::kRows) expect_ahead<S::kPanel * sizeof(float)>(panel + p * S::kPanel);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) S::load(column[v], panel + p * S::kPanel + v * S::kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kTileRows; ++i) {
        const float factor = a[i * stride + p];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sums[i][v] += column[v] * factor;
      }
    }
  }
  static ADATAPE_ALWAYS_INLINE void store(float* to, const typename S::Floats& x, int64_t count) { store_part<S>(to, x, count); }
};

// x <- x / (1 + 2^t), x times the sigmoid of -t / log2(e).
template <class S>
ADATAPE_ALWAYS_INLINE void gate(typename S::Floats& x, typename S::Floats t) {
  power_of_two<S>(t);
  x /= 1.0f + t;
}

template <class S>
ADATAPE_ALWAYS_INLINE void activate(Activation activation, typename S::Floats& x) {
  using F = typename S::Floats;
  if (activation == Activation::kGeluTanh) {
    gate<S>(x, x * (-2.3022081985f - 0.10294324073f * x * x));  // -log2(e) 2 sqrt(2 / pi) (x + 0.044715 x^3)
  } else if (activation == Activation::kGeluExact) {
    // 1 + erf(x / sqrt 2) of a negative x is the tail itself. Source: Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
    const F size = x > 0 ? x : -x, t = 1.0f / (1.0f + 0.23164190f * size);
    F tail = -0.5f * x * x;
    exponential<S>(tail);
    tail *= t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    x *= 0.5f * (x > 0 ? 2.0f - tail : tail);
  }
}

// Where results go: columns column .. of row i, cut at the width.
template <class S>
struct OutRows {
  float* out;
  const float* residual;  // null: none
  const int64_t* places;  // null: row i is begin + i
  int64_t begin, stride, width;

  ADATAPE_ALWAYS_INLINE int64_t place(int64_t i, int64_t column) const {
    return (places != nullptr ? places[begin + i] : begin + i) * stride + column;
  }
  // Lines asked for before a tile's sums are there when these are done.
  ADATAPE_ALWAYS_INLINE void expect(int64_t i, int64_t column) const {
    const int64_t at = place(i, column);
    __builtin_prefetch(out + at, 1);
    if (column + 16 < width) __builtin_prefetch(out + at + 16, 1);
    if (residual == nullptr) return;
    __builtin_prefetch(residual + at);
    if (column + 16 < width) __builtin_prefetch(residual + at + 16);
  }
  // Adjacent vectors of a row, all of them within its width.
  template <int kVectors>
  ADATAPE_ALWAYS_INLINE void put_whole(int64_t i, int64_t column, const typename S::Floats (&x)[kVectors]) const {
    const int64_t at = place(i, column);
    typename S::Floats base;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      if (residual == nullptr) {
        S::store(out + at + v * S::kLanes, x[v]);
      } else {
        S::load(base, residual + at + v * S::kLanes);
        S::store(out + at + v * S::kLanes, x[v] + base);
      }
    }
  }
  // Adjacent vectors, cut at the width.
  template <int kVectors>
  ADATAPE_ALWAYS_INLINE void put(int64_t i, int64_t column, const typename S::Floats (&x)[kVectors]) const {
    const int64_t at = place(i, column), left = width - column;
    typename S::Floats sum, base;
    for (int v = 0; v < kVectors; ++v) {
      sum = x[v];
      if (residual != nullptr) {
        load_part<S>(base, residual + at + v * S::kLanes, left - v * S::kLanes);
        sum += base;
      }
      store_part<S>(out + at + v * S::kLanes, sum, left - v * S::kLanes);
    }
  }
};

template <class Factors>
struct FactorRows {
  typename Factors::Element* to;
  int64_t stride, width;
  ADATAPE_ALWAYS_INLINE void expect(int64_t, int64_t) const {}
  template <int kVectors>
  ADATAPE_ALWAYS_INLINE void put_whole(int64_t i, int64_t column, const typename Factors::S::Floats (&x)[kVectors]) const {
    put(i, column, x);
  }
  template <int kVectors>
  ADATAPE_ALWAYS_INLINE void put(int64_t i, int64_t column, const typename Factors::S::Floats (&x)[kVectors]) const {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t at = column + v * Factors::S::kLanes;
      Factors::store(to + i * stride + at, x[v], width - at);
    }
  }
};

// One tile of the product and what follows it: rows first .. of `results`.
template <class Factors, int kTileRows, int kVectors, class Results>
ADATAPE_ALWAYS_INLINE void finished_tile(int64_t in, Activation activation, const typename Factors::Element* a, int64_t stride,
                                         const typename Factors::Element* panel, const float* biases, int64_t column, int64_t first,
                                         const Results& results) {
  using S = typename Factors::S;
  typename S::Floats sums[kTileRows][kVectors];
  const bool gated = kVectors == 2 && activation == Activation::kGated;
  for (int i = 0; i < kTileRows; ++i) results.expect(first + i, gated ? column / 2 : column);
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    typename S::Floats bias;
    S::load(bias, biases + column + v * S::kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) sums[i][v] = bias;
  }
  Factors::template sums_of<kTileRows, kVectors>(in, a, stride, panel, sums);
  if (activation == Activation::kNone && results.width - column >= kVectors * S::kLanes) {  // from the registers
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) results.put_whole(first + i, column, sums[i]);
    return;
  }
  // Not unrolled: a tile's end, made twelve times over, would drive the loop above out of the processor's cache of operations.
  for (int i = 0; i < kTileRows; ++i) {
    if constexpr (kVectors == 2) {
      if (gated) {
        typename S::Floats gated_sums[1] = {sums[i][0]};
        gate<S>(gated_sums[0], sums[i][1] * -1.4426950409f);
        results.put(first + i, column / 2, gated_sums);
        continue;
      }
    }
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) activate<S>(activation, sums[i][v]);
    results.put(first + i, column, sums[i]);
  }
}

// Panels first .. last of the product of m rows of a with the weight.
template <class Factors, class Results>
ADATAPE_ALWAYS_INLINE void product(const PackedWeight& weight, Activation activation, int64_t m, const typename Factors::Element* a,
                                   int64_t stride, int64_t first, int64_t last, const Results& results) {
  using S = typename Factors::S;
  using Element = typename Factors::Element;
  const int64_t columns = weight.gated ? 2 * S::padded(weight.out) : weight.out;
  const auto* panels = static_cast<const Element*>(weight.panels.const_data_ptr());
  const float* const biases = weight.bias.template const_data_ptr<float>();
  for (int64_t p = first; p < last; ++p) {
    const Element* const panel = panels + p * S::kPanel * Factors::depth(weight.in);
    const int64_t column = p * S::kPanel;
    int64_t i = 0;
    const auto run = [&]<int kTileRows>(std::integral_constant<int, kTileRows>) ADATAPE_INLINE_LAMBDA {
      for (; i + kTileRows <= m; i += kTileRows) {
        if (columns - column > S::kLanes) {
          finished_tile<Factors, kTileRows, 2>(weight.in, activation, a + i * stride, stride, panel, biases, column, i, results);
        } else {
          finished_tile<Factors, kTileRows, 1>(weight.in, activation, a + i * stride, stride, panel, biases, column, i, results);
        }
      }
    };
    run(std::integral_constant<int, S::kRows>());
    if constexpr (S::kRows > 8) run(std::integral_constant<int, 8>());
    // One to three rows cost what four do: they are done together with rows that are done already, which come out the same.
    if (m >= 4 && m - i < 4 && i < m) i = m - 4;
    run(std::integral_constant<int, 4>());
    run(std::integral_constant<int, 1>());
  }
}

// The left factor of rows begin .. begin + m: normed, rounded, gathered, as the task wants it.
template <class Factors>
ADATAPE_ALWAYS_INLINE void left_factor(const LinearTask& task, int64_t begin, int64_t m, int64_t stride, typename Factors::Element* to) {
  using S = typename Factors::S;
  using F = typename S::Floats;
  const int64_t in = task.weight->in;
  for (int64_t i = 0; i < m; ++i, to += stride) {
    const float* const x = task.x + (task.rows != nullptr ? task.rows[begin + i] : begin + i) * task.x_stride;
    F sums = {}, squares = {}, v;
    float mean = 0, scale = 1;
    if (task.norm_weight != nullptr) {
      for (int64_t c = 0; c < in; c += S::kLanes) {
        load_part<S>(v, x + c, in - c);
        sums += v;
      }
      for (int lane = 0; lane < S::kLanes; ++lane) mean += sums[lane];
      mean /= static_cast<float>(in);
      for (int64_t c = 0; c + S::kLanes <= in; c += S::kLanes) {
        S::load(v, x + c);
        v -= mean;
        squares += v * v;
      }
      float variance = 0;
      for (int lane = 0; lane < S::kLanes; ++lane) variance += squares[lane];
      for (int64_t c = in / S::kLanes * S::kLanes; c < in; ++c) variance += (x[c] - mean) * (x[c] - mean);
      scale = 1 / std::sqrt(variance / static_cast<float>(in) + task.epsilon);
    }
    for (int64_t c = 0; c < in; c += S::kLanes) {
      load_part<S>(v, x + c, in - c);
      if (task.norm_weight != nullptr) {
        F w, b;
        load_part<S>(w, task.norm_weight + c, in - c);
        load_part<S>(b, task.norm_bias + c, in - c);
        v = (v - mean) * scale * w + b;
      }
      Factors::store(to + c, v, in - c);
    }
    for (int64_t c = in; c < Factors::depth(in); ++c) to[c] = typename Factors::Element{};
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE int64_t panels_of(const PackedWeight& weight) {
  return (weight.gated ? 2 * ((weight.out + S::kLanes - 1) / S::kLanes * S::kLanes) : S::padded(weight.out)) / S::kPanel;
}

// The steps of a block of rows, each compiled as a function of its own: together the compiler runs out of registers.
struct LinearSteps {
  void (*left)(const LinearTask& task, int64_t begin, int64_t rows, int64_t stride, void* to);
  // Panels first .. last of task.weight into task.out (rows begin ..), and all of them into rows of factors for task.second.
  void (*finish)(const LinearTask& task, const PackedWeight& weight, int64_t begin, int64_t rows, const void* a, int64_t stride,
                 int64_t first, int64_t last);
  void (*widen)(const LinearTask& task, int64_t rows, const void* a, int64_t stride, void* to, int64_t to_stride);
};

template <class Factors>
ADATAPE_ALWAYS_INLINE void finish_rows(const LinearTask& task, const PackedWeight& weight, int64_t begin, int64_t rows, const void* a,
                                       int64_t stride, int64_t first, int64_t last) {
  // A product behind packed_mlp's activation has none of its own.
  const Activation activation = &weight == task.second ? Activation::kNone : task.activation;
  const OutRows<typename Factors::S> results{task.out, task.residual, task.rows, begin, task.out_stride, weight.out};
  product<Factors>(weight, activation, rows, static_cast<const typename Factors::Element*>(a), stride, first, last, results);
}

template <class Factors>
ADATAPE_ALWAYS_INLINE void widen_rows(const LinearTask& task, int64_t rows, const void* a, int64_t stride, void* to, int64_t to_stride) {
  using Element = typename Factors::Element;
  const int64_t width = task.weight->out;
  const FactorRows<Factors> results{static_cast<Element*>(to), to_stride, width};
  product<Factors>(*task.weight, task.activation, rows, static_cast<const Element*>(a), stride, 0,
                   panels_of<typename Factors::S>(*task.weight), results);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = width; c < Factors::depth(width); ++c) results.to[i * to_stride + c] = Element{};
  }
}

// What packed_linear_bfloat16.cc offers where the processor has the instructions.
extern const LinearSteps kBfloat16Steps;

}  // namespace adatape::ops::cpu
