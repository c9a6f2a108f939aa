// The inner loops of the CPU kernel. Vectors are 32 bytes wide, so that they are one AVX2 register, and are summed in an order that depends
// on lengths alone, never on alignment: rows with the same values get the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "adatape/ops/cpu_simd.h"

namespace adatape::ops::cpu {

template <class T>
struct Vector {
  typedef T Type __attribute__((vector_size(32)));
  static constexpr int64_t kLanes = 32 / sizeof(T);
  static constexpr int64_t kLine = 2 * kLanes;  // rows whose keys are stored side by side: a line of the cache
  static constexpr int64_t kTile = 8 * kLanes;  // rows scored at once: as many independent sums as hide the latency of FMA
};

template <class T>
ADATAPE_ALWAYS_INLINE T sum(const T* x, int64_t n) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  V s[4] = {}, v;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      std::memcpy(&v, x + i + k * kLanes, sizeof(V));
      s[k] += v;
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    std::memcpy(&v, x + i, sizeof(V));
    s[0] += v;
  }
  s[0] = (s[0] + s[1]) + (s[2] + s[3]);
  T total = sum_of_lanes(s[0]);
  for (; i < n; ++i) total += x[i];
  return total;
}

// Sum of (x - mean)^2.
template <class T>
ADATAPE_ALWAYS_INLINE T sum_of_squares(const T* x, T mean, int64_t n) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  V s[4] = {}, v;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      std::memcpy(&v, x + i + k * kLanes, sizeof(V));
      v -= mean;
      s[k] += v * v;
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    std::memcpy(&v, x + i, sizeof(V));
    v -= mean;
    s[0] += v * v;
  }
  s[0] = (s[0] + s[1]) + (s[2] + s[3]);
  T total = sum_of_lanes(s[0]);
  for (; i < n; ++i) total += (x[i] - mean) * (x[i] - mean);
  return total;
}

template <class T>
ADATAPE_ALWAYS_INLINE T dot(const T* x, const T* y, int64_t n) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  V s[4] = {}, v, u;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      std::memcpy(&v, x + i + k * kLanes, sizeof(V));
      std::memcpy(&u, y + i + k * kLanes, sizeof(V));
      s[k] += v * u;
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    std::memcpy(&v, x + i, sizeof(V));
    std::memcpy(&u, y + i, sizeof(V));
    s[0] += v * u;
  }
  s[0] = (s[0] + s[1]) + (s[2] + s[3]);
  T total = sum_of_lanes(s[0]);
  for (; i < n; ++i) total += x[i] * y[i];
  return total;
}

// Asks for a row that will be read soon: several at once hide the memory's latency.
template <class T>
ADATAPE_ALWAYS_INLINE void prefetch_row(const T* row, int64_t width) {
  for (int64_t f = 0; f < width; f += 64 / static_cast<int64_t>(sizeof(T))) __builtin_prefetch(row + f);
}

template <class T>
struct RowNorm {
  T mean, inverse_deviation;
};

// Sums of x - shift and of its squares, in one pass.
template <class T>
ADATAPE_ALWAYS_INLINE void shifted_sums(const T* x, T shift, int64_t n, T& sum_out, T& squares_out) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  V s[4] = {}, q[4] = {}, v;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      std::memcpy(&v, x + i + k * kLanes, sizeof(V));
      v -= shift;
      s[k] += v;
      q[k] += v * v;
    }
  }
  for (; i + kLanes <= n; i += kLanes) {
    std::memcpy(&v, x + i, sizeof(V));
    v -= shift;
    s[0] += v;
    q[0] += v * v;
  }
  s[0] = (s[0] + s[1]) + (s[2] + s[3]);
  q[0] = (q[0] + q[1]) + (q[2] + q[3]);
  T total = sum_of_lanes(s[0]), squares = sum_of_lanes(q[0]);
  for (; i < n; ++i) {
    total += x[i] - shift;
    squares += (x[i] - shift) * (x[i] - shift);
  }
  sum_out = total;
  squares_out = squares;
}

// Mean and deviation in one pass, around the mean of the first few values; a row whose beginning says little about it (its mean is more
// than two deviations away, so that bits would cancel) takes a second pass.
template <class T>
ADATAPE_ALWAYS_INLINE RowNorm<T> row_norm(const T* row, int64_t width, T epsilon) {
  const int64_t few = width < 32 ? width : 32;
  const T n = static_cast<T>(width);
  const T shift = sum(row, few) / static_cast<T>(few);
  if (width == few) return {shift, 1 / std::sqrt(sum_of_squares(row, shift, width) / n + epsilon)};
  T total, squares;
  shifted_sums(row, shift, width, total, squares);
  const T distance = total / n, variance = squares / n - distance * distance;
  const T mean = shift + distance;
  if (distance * distance <= 4 * variance) return {mean, 1 / std::sqrt(variance + epsilon)};
  return {mean, 1 / std::sqrt(sum_of_squares(row, mean, width) / n + epsilon)};
}

// a and b interleaved: the low halves, and the high halves.
ADATAPE_ALWAYS_INLINE void interleave(Vector<float>::Type& a, Vector<float>::Type& b) {
  const Vector<float>::Type low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  b = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  a = low;
}
ADATAPE_ALWAYS_INLINE void interleave(Vector<double>::Type& a, Vector<double>::Type& b) {
  const Vector<double>::Type low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  b = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  a = low;
}

// Normalised features f .. f + kLanes - 1 of kLanes rows, to out[feature * kLine + row].
template <class T>
ADATAPE_ALWAYS_INLINE void transposed_keys(const T* const* rows, int64_t f, const RowNorm<T>* norms, const T* weight, const T* bias,
                                           T* out) {
  using V = typename Vector<T>::Type;
  constexpr int kLanes = static_cast<int>(Vector<T>::kLanes);
  V keys[kLanes], scale, shift;
  std::memcpy(&scale, weight + f, sizeof(V));
  std::memcpy(&shift, bias + f, sizeof(V));
#pragma GCC unroll 8
  for (int j = 0; j < kLanes; ++j) {
    std::memcpy(&keys[j], rows[j] + f, sizeof(V));
    keys[j] = (keys[j] - norms[j].mean) * norms[j].inverse_deviation * scale + shift;
  }
  // log2(kLanes) rounds of interleaving vector j with vector j + kLanes / 2 transpose the square.
  V turned[kLanes];
#pragma GCC unroll 3
  for (int round = 1; round < kLanes; round *= 2) {
#pragma GCC unroll 4
    for (int j = 0; j < kLanes / 2; ++j) {
      turned[2 * j] = keys[j];
      turned[2 * j + 1] = keys[j + kLanes / 2];
      interleave(turned[2 * j], turned[2 * j + 1]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < kLanes; ++j) keys[j] = turned[j];
  }
#pragma GCC unroll 8
  for (int j = 0; j < kLanes; ++j) std::memcpy(out + (f + j) * Vector<T>::kLine, &keys[j], sizeof(V));
}

// Scores of the first kVectors x kLanes rows of a tile, keys stored [line][d][kLine]: every row is summed over d in the same order, one
// lane each.
template <class T, int kVectors = 8>
ADATAPE_ALWAYS_INLINE void score_tile(const T* query, const T* keys, int64_t d, T* scores) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  constexpr int64_t kLine = Vector<T>::kLine;
  V s[kVectors] = {}, key;
  for (int64_t f = 0; f < d; ++f) {
    const T q = query[f];
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) {
      std::memcpy(&key, keys + k / 2 * kLine * d + f * kLine + k % 2 * kLanes, sizeof(V));
      s[k] += key * q;
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < kVectors; ++k) std::memcpy(scores + k * kLanes, &s[k], sizeof(V));
}

}  // namespace adatape::ops::cpu
