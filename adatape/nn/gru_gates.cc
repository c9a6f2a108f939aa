#include "adatape/nn/gru_gates.h"

#include <ATen/Parallel.h>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_simd.h"

namespace adatape {
namespace {

using ops::cpu::load_part;
using ops::cpu::sigmoid;
using ops::cpu::Simd;
using ops::cpu::store_part;

template <class S>
ADATAPE_ALWAYS_INLINE void gates_of(const float* input, const float* state, const float* hidden, int64_t width, float* out) {
  using F = typename S::Floats;
  for (int64_t i = 0; i < width; i += S::kLanes) {
    const int64_t count = width - i;
    const auto both = [&](int64_t gate, F& a, F& b) ADATAPE_INLINE_LAMBDA {
      load_part<S>(a, input + gate * width + i, count);
      load_part<S>(b, state + gate * width + i, count);
    };
    F reset, keep, fresh, b, h;
    both(0, reset, b);
    reset += b;
    sigmoid<S>(reset);
    both(1, keep, b);
    keep += b;
    sigmoid<S>(keep);
    both(2, fresh, b);
    fresh = 2.0f * (fresh + reset * b);
    sigmoid<S>(fresh);
    fresh = 2.0f * fresh - 1.0f;  // tanh x = 2 sigmoid(2 x) - 1
    load_part<S>(h, hidden + i, count);
    store_part<S>(out + i, fresh + keep * (h - fresh), count);
  }
}

ADATAPE_CPU_CLONES void gates_narrow(const float* input, const float* state, const float* hidden, int64_t width, float* out) {
  gates_of<Simd<8>>(input, state, hidden, width, out);
}
ADATAPE_CPU_AVX512 void gates_wide(const float* input, const float* state, const float* hidden, int64_t width, float* out) {
  gates_of<Simd<16>>(input, state, hidden, width, out);
}

}  // namespace

torch::Tensor gru_gates(const torch::Tensor& from_input, const torch::Tensor& from_state, const torch::Tensor& hidden) {
  const int64_t rows = hidden.size(0), width = hidden.size(1);
  for (const torch::Tensor& x : {from_input, from_state}) {
    ADATAPE_CHECK(x.dim() == 2 && x.size(0) == rows && x.size(1) == 3 * width && x.stride(1) == 1, "gru", "expected products [", rows, ", ",
                  3 * width, "], got ", x.sizes());
  }
  const torch::Tensor before = hidden.contiguous();
  torch::Tensor out = at::empty({rows, width}, hidden.options());
  at::parallel_for(0, rows, ops::cpu::grain(16 * width), [&](int64_t begin, int64_t end) {
    const auto run = ops::cpu::has_avx512() ? gates_wide : gates_narrow;
    for (int64_t r = begin; r < end; ++r) {
      run(from_input.const_data_ptr<float>() + r * from_input.stride(0), from_state.const_data_ptr<float>() + r * from_state.stride(0),
          before.const_data_ptr<float>() + r * width, width, out.mutable_data_ptr<float>() + r * width);
    }
  });
  return out;
}

}  // namespace adatape
