// Vectors of kLanes floats for CPU kernels: 8 is an AVX2 register, 16 an AVX-512 one.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "adatape/ops/cpu_clones.h"

namespace adatape::ops::cpu {

template <int kLanes_>
struct Simd {
  static constexpr int kLanes = kLanes_;
  static constexpr int kPanel = 2 * kLanes;            // columns of a matrix that are stored together
  static constexpr int kRows = kLanes == 16 ? 12 : 6;  // of a tile: kRows x 2 sums, 2 columns and a factor fill the registers
  typedef float Floats __attribute__((vector_size(4 * kLanes_)));
  typedef int32_t Integers __attribute__((vector_size(4 * kLanes_)));
  typedef uint32_t Words __attribute__((vector_size(4 * kLanes_)));
  static ADATAPE_ALWAYS_INLINE void load(Floats& to, const float* from) { std::memcpy(&to, from, sizeof(Floats)); }
  static ADATAPE_ALWAYS_INLINE void store(float* to, const Floats& from) { std::memcpy(to, &from, sizeof(Floats)); }
  static ADATAPE_ALWAYS_INLINE int64_t padded(int64_t columns) { return (columns + kPanel - 1) / kPanel * kPanel; }
};

// The first `count` floats, at most a vector of them; `behind` in the other lanes.
template <class S>
ADATAPE_ALWAYS_INLINE void load_part(typename S::Floats& to, const float* from, int64_t count, float behind = 0) {
  if (count >= S::kLanes) {
    S::load(to, from);
  } else {
    to = typename S::Floats{} + behind;
    if (count > 0) std::memcpy(&to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void store_part(float* to, const typename S::Floats& from, int64_t count) {
  if (count >= S::kLanes) {
    S::store(to, from);
  } else if (count > 0) {
    std::memcpy(to, &from, static_cast<size_t>(count) * sizeof(float));
  }
}

template <class V>
inline constexpr int kLanesOf = static_cast<int>(sizeof(V) / sizeof(V{}[0]));

// to = each lane's partner, kHalf lanes away in the other half of its 2 kHalf lanes. By reference: a vector's way through a return changes
// with the instructions that a function may use.
template <int kHalf, class V, size_t... kLane>
ADATAPE_ALWAYS_INLINE void partners(const V& x, V& to, std::index_sequence<kLane...>) {
  to = __builtin_shufflevector(x, x, static_cast<int>(kLane ^ kHalf)...);
}
template <int kHalf, class V>
ADATAPE_ALWAYS_INLINE void partners(const V& x, V& to) {
  partners<kHalf>(x, to, std::make_index_sequence<kLanesOf<V>>());
}

// combine(partners' lanes) for 8 (of 16 lanes), 4, 2 and 1 lanes away: lane after lane would be sixteen dependent steps.
template <class V, class Combine>
ADATAPE_ALWAYS_INLINE void across_lanes(const Combine& combine) {
  constexpr int kLanes = kLanesOf<V>;
  if constexpr (kLanes > 8) combine(std::integral_constant<int, 8>());
  if constexpr (kLanes > 4) combine(std::integral_constant<int, 4>());
  combine(std::integral_constant<int, 2>());
  combine(std::integral_constant<int, 1>());
}

template <class V>
ADATAPE_ALWAYS_INLINE auto sum_of_lanes(const V& x) {
  V sum = x, other;
  across_lanes<V>([&]<int kHalf>(std::integral_constant<int, kHalf>) ADATAPE_INLINE_LAMBDA {
    partners<kHalf>(sum, other);
    sum += other;
  });
  return sum[0];
}
template <class V>
ADATAPE_ALWAYS_INLINE auto max_of_lanes(const V& x) {
  V best = x, other;
  across_lanes<V>([&]<int kHalf>(std::integral_constant<int, kHalf>) ADATAPE_INLINE_LAMBDA {
    partners<kHalf>(best, other);
    best = best > other ? best : other;
  });
  return best[0];
}

// A few floats, inline: a call of the C library for each short row costs more than the copy.
ADATAPE_ALWAYS_INLINE void copy_floats(const float* from, int64_t count, float* to) {
  for (; count >= 8; count -= 8, from += 8, to += 8) std::memcpy(to, from, 8 * sizeof(float));
  if (count & 4) {
    std::memcpy(to, from, 4 * sizeof(float));
    from += 4;
    to += 4;
  }
  if (count & 2) {
    std::memcpy(to, from, 2 * sizeof(float));
    from += 2;
    to += 2;
  }
  if (count & 1) *to = *from;
}

// Four columns of four adjacent numbers, `column` apart, to four rows.
ADATAPE_ALWAYS_INLINE void turn(const float* from, int64_t column, float* to, int64_t row) {
  typedef float Four __attribute__((vector_size(16)));
  Four a, b, c, d;
  std::memcpy(&a, from, sizeof(a));
  std::memcpy(&b, from + column, sizeof(b));
  std::memcpy(&c, from + 2 * column, sizeof(c));
  std::memcpy(&d, from + 3 * column, sizeof(d));
  const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5),
             ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four rows[4] = {__builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
                        __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
  for (int i = 0; i < 4; ++i) std::memcpy(to + i * row, &rows[i], sizeof(Four));
}

// x <- e^x, for x <= 0 or somewhat above, within 2 units in the last place; 0 below -87, NaN of NaN. Source: Cephes, expf.
template <class S>
ADATAPE_ALWAYS_INLINE void exponential(typename S::Floats& x) {
  using F = typename S::Floats;
  const auto vanishes = x < -87.0f;
  x = vanishes ? F{} - 87.0f : x;
  constexpr float kRound = 12582912.0f;  // 1.5 x 2^23: adding and subtracting it rounds
  const F shifted = x * 1.44269504088896341f + kRound, n = shifted - kRound;
  const F r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  typename S::Integers bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + (127 << 23);  // the low bits of `shifted` are n
  F power;
  std::memcpy(&power, &bits, sizeof(power));
  x = vanishes ? F{} : y * power;
}

// t <- 2^t, within 2 units in the last place; 0 below -125, infinite above 125, NaN of any NaN. Source: Cephes, exp2f.
template <class S>
ADATAPE_ALWAYS_INLINE void power_of_two(typename S::Floats& t) {
  using F = typename S::Floats;
  constexpr float kMost = 125, kRound = 12582912.0f;  // as above
  const auto vanishes = t < -kMost, within = t <= kMost;
  const F infinite = t + std::numeric_limits<float>::infinity();  // or NaN, whose bits the addition below might turn into a number's
  const F shifted = t + kRound, r = t - (shifted - kRound);
  F y = r * 1.535336188e-4f + 1.339887440e-3f;
  y = y * r + 9.618437357e-3f;
  y = y * r + 5.550332471e-2f;
  y = y * r + 2.402264791e-1f;
  y = y * r + 6.931472029e-1f;
  y = y * r + 1.0f;
  typename S::Words n, bits;  // without a sign: of lanes that are replaced below anything may come out
  std::memcpy(&n, &shifted, sizeof(n));
  std::memcpy(&bits, &y, sizeof(bits));
  bits += n << 23;  // the low bits of `shifted` are the whole part
  std::memcpy(&t, &bits, sizeof(t));
  t = vanishes ? F{} : t;
  t = within ? t : infinite;
}

// g <- 1 / (1 + e^-g), without overflow for any g, within 1e-7 of itself and, below 0, 4e-8 |g| more; 0 below -87.
template <class S>
ADATAPE_ALWAYS_INLINE void sigmoid(typename S::Floats& g) {
  g *= -1.4426950408889634f;
  power_of_two<S>(g);
  g = 1.0f / (1.0f + g);
}

}  // namespace adatape::ops::cpu
