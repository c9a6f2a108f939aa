#include "adatape/ops/activation.h"

#include <limits>

#include "adatape/ops/cpu_simd.h"

namespace adatape::ops::cpu {
namespace {

constexpr float kLinear = 1.5957691216057308f, kCubic = 0.07135481282553925f;  // 2 sqrt(2 / pi), and 0.044715 times that
constexpr float kFlat = 15;

template <class S>
ADATAPE_ALWAYS_INLINE void gelu_of(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += S::kLanes) {
    typename S::Floats v, gate;
    load_part<S>(v, x + i, count - i);
    gate = v * (kLinear + kCubic * v * v);
    sigmoid<S>(gate);
    store_part<S>(out + i, v * gate, count - i);
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void gelu_gradient_of(const float* x, const float* grad, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += S::kLanes) {
    typename S::Floats v, gate, d;
    load_part<S>(v, x + i, count - i);
    load_part<S>(d, grad + i, count - i);
    // Past 15 the gate is 0 or 1 to the last bit; the square of a huge number would be infinite, and 0 times that no number.
    v = v < -kFlat ? typename S::Floats{} - kFlat : v;
    v = v > kFlat ? typename S::Floats{} + kFlat : v;
    const typename S::Floats square = v * v;
    gate = v * (kLinear + kCubic * square);
    sigmoid<S>(gate);
    store_part<S>(out + i, d * gate * (1.0f + v * (1.0f - gate) * (kLinear + 3.0f * kCubic * square)), count - i);
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void gate_of(const float* x, int64_t rows, int64_t width, float* out, float* gates, int64_t gates_row) {
  for (int64_t r = 0; r < rows; ++r, x += 2 * width, out += width, gates += gates == nullptr ? 0 : gates_row) {
    for (int64_t i = 0; i < width; i += S::kLanes) {
      const int64_t count = width - i;
      typename S::Floats a, g;
      load_part<S>(a, x + i, count);
      load_part<S>(g, x + width + i, count);
      sigmoid<S>(g);
      store_part<S>(out + i, a * g, count);
      if (gates != nullptr) store_part<S>(gates + i, g, count);
    }
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void gate_gradient_of(const float* x, const float* gates, int64_t gates_row, const float* grad, int64_t rows,
                                            int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += 2 * width, gates += gates_row, grad += width, out += 2 * width) {
    for (int64_t i = 0; i < width; i += S::kLanes) {
      const int64_t count = width - i;
      typename S::Floats a, g, d;
      load_part<S>(a, x + i, count);
      load_part<S>(g, gates + i, count);
      load_part<S>(d, grad + i, count);
      const typename S::Floats through_a = d * g;
      store_part<S>(out + i, through_a, count);
      store_part<S>(out + width + i, through_a * a * (1.0f - g), count);
    }
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void softmax_of(const float* x, int64_t rows, int64_t width, float* out) {
  using F = typename S::Floats;
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  for (int64_t r = 0; r < rows; ++r, x += width, out += width) {
    F v, best = F{} + kLowest, sums{};
    for (int64_t i = 0; i < width; i += S::kLanes) {
      load_part<S>(v, x + i, width - i, kLowest);
      best = v > best ? v : best;
    }
    const float max = max_of_lanes(best);
    for (int64_t i = 0; i < width; i += S::kLanes) {
      load_part<S>(v, x + i, width - i, kLowest);
      v -= max;
      exponential<S>(v);
      sums += v;
      store_part<S>(out + i, v, width - i);
    }
    const float factor = 1 / sum_of_lanes(sums);
    for (int64_t i = 0; i < width; ++i) out[i] *= factor;
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void softmax_gradient_of(const float* softmax, const float* grad, int64_t rows, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r, softmax += width, grad += width, out += width) {
    typename S::Floats s, g, sums{};
    for (int64_t i = 0; i < width; i += S::kLanes) {
      load_part<S>(s, softmax + i, width - i);
      load_part<S>(g, grad + i, width - i);
      sums += s * g;
    }
    const float mean = sum_of_lanes(sums);
    for (int64_t i = 0; i < width; ++i) out[i] = softmax[i] * (grad[i] - mean);
  }
}

ADATAPE_CPU_CLONES void softmax_narrow(const float* x, int64_t rows, int64_t width, float* out) {
  softmax_of<Simd<8>>(x, rows, width, out);
}
ADATAPE_CPU_AVX512 void softmax_wide(const float* x, int64_t rows, int64_t width, float* out) { softmax_of<Simd<16>>(x, rows, width, out); }
ADATAPE_CPU_CLONES void softmax_gradient_narrow(const float* softmax, const float* grad, int64_t rows, int64_t width, float* out) {
  softmax_gradient_of<Simd<8>>(softmax, grad, rows, width, out);
}
ADATAPE_CPU_AVX512 void softmax_gradient_wide(const float* softmax, const float* grad, int64_t rows, int64_t width, float* out) {
  softmax_gradient_of<Simd<16>>(softmax, grad, rows, width, out);
}
ADATAPE_CPU_CLONES void gelu_narrow(const float* x, int64_t count, float* out) { gelu_of<Simd<8>>(x, count, out); }
ADATAPE_CPU_AVX512 void gelu_wide(const float* x, int64_t count, float* out) { gelu_of<Simd<16>>(x, count, out); }
ADATAPE_CPU_CLONES void gelu_gradient_narrow(const float* x, const float* grad, int64_t count, float* out) {
  gelu_gradient_of<Simd<8>>(x, grad, count, out);
}
ADATAPE_CPU_AVX512 void gelu_gradient_wide(const float* x, const float* grad, int64_t count, float* out) {
  gelu_gradient_of<Simd<16>>(x, grad, count, out);
}
ADATAPE_CPU_CLONES void gate_narrow(const float* x, int64_t rows, int64_t width, float* out, float* gates, int64_t gates_row) {
  gate_of<Simd<8>>(x, rows, width, out, gates, gates_row);
}
ADATAPE_CPU_AVX512 void gate_wide(const float* x, int64_t rows, int64_t width, float* out, float* gates, int64_t gates_row) {
  gate_of<Simd<16>>(x, rows, width, out, gates, gates_row);
}
ADATAPE_CPU_CLONES void gate_gradient_narrow(const float* x, const float* gates, int64_t gates_row, const float* grad, int64_t rows,
                                             int64_t width, float* out) {
  gate_gradient_of<Simd<8>>(x, gates, gates_row, grad, rows, width, out);
}
ADATAPE_CPU_AVX512 void gate_gradient_wide(const float* x, const float* gates, int64_t gates_row, const float* grad, int64_t rows,
                                           int64_t width, float* out) {
  gate_gradient_of<Simd<16>>(x, gates, gates_row, grad, rows, width, out);
}

}  // namespace

void tanh_gelu(const float* x, int64_t count, float* out) { (has_avx512() ? gelu_wide : gelu_narrow)(x, count, out); }

void tanh_gelu_gradient(const float* x, const float* grad, int64_t count, float* out) {
  (has_avx512() ? gelu_gradient_wide : gelu_gradient_narrow)(x, grad, count, out);
}

void gate(const float* x, int64_t rows, int64_t width, float* out, float* gates, int64_t gates_row) {
  (has_avx512() ? gate_wide : gate_narrow)(x, rows, width, out, gates, gates_row);
}

void gate_gradient(const float* x, const float* gates, int64_t gates_row, const float* grad, int64_t rows, int64_t width, float* out) {
  (has_avx512() ? gate_gradient_wide : gate_gradient_narrow)(x, gates, gates_row, grad, rows, width, out);
}

void softmax_rows(const float* x, int64_t rows, int64_t width, float* out) {
  (has_avx512() && width > 8 ? softmax_wide : softmax_narrow)(x, rows, width, out);
}

void softmax_rows_gradient(const float* softmax, const float* grad, int64_t rows, int64_t width, float* out) {
  (has_avx512() && width > 8 ? softmax_gradient_wide : softmax_gradient_narrow)(softmax, grad, rows, width, out);
}

}  // namespace adatape::ops::cpu
