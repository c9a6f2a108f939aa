// The inner loops of the CPU kernel. Vectors are 32 bytes wide, so that they are one AVX2 register, and are summed in an order that depends
// on lengths alone, never on alignment: rows with the same values get the same bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "adatape/ops/cpu_clones.h"

namespace adatape::ops::cpu {

template <class T>
struct Vector {
  typedef T Type __attribute__((vector_size(32)));
  static constexpr int64_t kLanes = 32 / sizeof(T);
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
  T total = 0;
  for (int64_t k = 0; k < kLanes; ++k) total += s[0][k];
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
  T total = 0;
  for (int64_t k = 0; k < kLanes; ++k) total += s[0][k];
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
  T total = 0;
  for (int64_t k = 0; k < kLanes; ++k) total += s[0][k];
  for (; i < n; ++i) total += x[i] * y[i];
  return total;
}

template <class T>
struct RowNorm {
  T mean, inverse_deviation;
};

template <class T>
ADATAPE_ALWAYS_INLINE RowNorm<T> row_norm(const T* row, int64_t width, T epsilon) {
  const T mean = sum(row, width) / static_cast<T>(width);
  return {mean, 1 / std::sqrt(sum_of_squares(row, mean, width) / static_cast<T>(width) + epsilon)};
}

// Scores of the kTile rows of one tile, keys stored [d][kTile]: every row is summed over d in the same order, one lane each.
template <class T>
ADATAPE_ALWAYS_INLINE void score_tile(const T* query, const T* keys, int64_t d, T* scores) {
  using V = typename Vector<T>::Type;
  constexpr int64_t kLanes = Vector<T>::kLanes;
  V s[8] = {}, key;
  for (int64_t f = 0; f < d; ++f) {
    const T q = query[f];
#pragma GCC unroll 8
    for (int k = 0; k < 8; ++k) {
      std::memcpy(&key, keys + f * Vector<T>::kTile + k * kLanes, sizeof(V));
      s[k] += key * q;
    }
  }
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) std::memcpy(scores + k * kLanes, &s[k], sizeof(V));
}

}  // namespace adatape::ops::cpu
