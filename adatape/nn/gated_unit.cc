#include "adatape/nn/gated_unit.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_simd.h"

namespace adatape {
namespace {

using ops::cpu::sigmoid;
using ops::cpu::Simd;

// The vectors of a row that is not a multiple of them end in one that is copied through `tail`.
template <class S, class Body>
ADATAPE_ALWAYS_INLINE void for_vectors(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + S::kLanes <= width; i += S::kLanes) body(i, S::kLanes);
  if (i < width) body(i, static_cast<int>(width - i));
}

template <class S>
ADATAPE_ALWAYS_INLINE void load_some(typename S::Floats& to, const float* from, int count) {
  if (count == S::kLanes) {
    S::load(to, from);
  } else {
    to = typename S::Floats{};
    std::memcpy(&to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void store_some(float* to, const typename S::Floats& from, int count) {
  std::memcpy(to, &from, static_cast<size_t>(count) * sizeof(float));
}

template <class S>
ADATAPE_ALWAYS_INLINE void forward_rows(const float* x, int64_t rows, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += 2 * width, out += width) {
    for_vectors<S>(width, [&](int64_t i, int count) ADATAPE_INLINE_LAMBDA {
      typename S::Floats a, g;
      load_some<S>(a, x + i, count);
      load_some<S>(g, x + width + i, count);
      sigmoid<S>(g);
      store_some<S>(out + i, a * g, count);
    });
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void backward_rows(const float* x, const float* grad, int64_t rows, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += 2 * width, grad += width, out += 2 * width) {
    for_vectors<S>(width, [&](int64_t i, int count) ADATAPE_INLINE_LAMBDA {
      typename S::Floats a, g, d;
      load_some<S>(a, x + i, count);
      load_some<S>(g, x + width + i, count);
      load_some<S>(d, grad + i, count);
      sigmoid<S>(g);
      const typename S::Floats through_a = d * g;
      store_some<S>(out + i, through_a, count);
      store_some<S>(out + width + i, through_a * a * (1.0f - g), count);
    });
  }
}

ADATAPE_CPU_CLONES void forward(const float* x, int64_t rows, int64_t width, float* out) { forward_rows<Simd<8>>(x, rows, width, out); }
ADATAPE_CPU_AVX512 void forward_wide(const float* x, int64_t rows, int64_t width, float* out) {
  forward_rows<Simd<16>>(x, rows, width, out);
}
ADATAPE_CPU_CLONES void backward(const float* x, const float* grad, int64_t rows, int64_t width, float* out) {
  backward_rows<Simd<8>>(x, grad, rows, width, out);
}
ADATAPE_CPU_AVX512 void backward_wide(const float* x, const float* grad, int64_t rows, int64_t width, float* out) {
  backward_rows<Simd<16>>(x, grad, rows, width, out);
}

struct GateFunction : torch::autograd::Function<GateFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& given) {
    const at::Tensor x = given.contiguous();
    context->save_for_backward({x});
    const int64_t width = x.size(1) / 2;
    at::Tensor out = at::empty({x.size(0), width}, x.options());
    at::parallel_for(0, x.size(0), ops::cpu::grain(8 * width), [&](int64_t begin, int64_t end) {
      const auto run = ops::cpu::has_avx512() ? forward_wide : adatape::forward;
      run(x.const_data_ptr<float>() + begin * 2 * width, end - begin, width, out.mutable_data_ptr<float>() + begin * width);
    });
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& grads) {
    const at::Tensor x = context->get_saved_variables()[0], grad = grads[0].contiguous();
    const int64_t width = x.size(1) / 2;
    at::Tensor out = at::empty_like(x);
    at::parallel_for(0, x.size(0), ops::cpu::grain(8 * width), [&](int64_t begin, int64_t end) {
      const auto run = ops::cpu::has_avx512() ? backward_wide : adatape::backward;
      run(x.const_data_ptr<float>() + begin * 2 * width, grad.const_data_ptr<float>() + begin * width, end - begin, width,
          out.mutable_data_ptr<float>() + begin * 2 * width);
    });
    return {out};
  }
};

}  // namespace

torch::Tensor gated_unit(const torch::Tensor& x) {
  ADATAPE_CHECK(x.dim() == 2 && x.size(1) % 2 == 0, "gated unit", "expected [rows, 2 m], got ", x.sizes());
  if (!x.is_cpu() || x.scalar_type() != at::kFloat) return at::glu(x, -1);
  return GateFunction::apply(x);
}

}  // namespace adatape
