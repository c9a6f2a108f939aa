#include "adatape/nn/gated_unit.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_simd.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

using ops::cpu::load_part;
using ops::cpu::sigmoid;
using ops::cpu::Simd;
using ops::cpu::store_part;

template <class S>
ADATAPE_ALWAYS_INLINE void forward_rows(const float* x, int64_t rows, int64_t width, float* out, float* gates) {
  for (int64_t r = 0; r < rows; ++r, x += 2 * width, out += width, gates += gates == nullptr ? 0 : width) {
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
ADATAPE_ALWAYS_INLINE void backward_rows(const float* x, const float* gates, const float* grad, int64_t rows, int64_t width, float* out) {
  for (int64_t r = 0; r < rows; ++r, x += 2 * width, gates += width, grad += width, out += 2 * width) {
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

ADATAPE_CPU_CLONES void forward_narrow(const float* x, int64_t rows, int64_t width, float* out, float* gates) {
  forward_rows<Simd<8>>(x, rows, width, out, gates);
}
ADATAPE_CPU_AVX512 void forward_wide(const float* x, int64_t rows, int64_t width, float* out, float* gates) {
  forward_rows<Simd<16>>(x, rows, width, out, gates);
}
ADATAPE_CPU_CLONES void backward_narrow(const float* x, const float* gates, const float* grad, int64_t rows, int64_t width, float* out) {
  backward_rows<Simd<8>>(x, gates, grad, rows, width, out);
}
ADATAPE_CPU_AVX512 void backward_wide(const float* x, const float* gates, const float* grad, int64_t rows, int64_t width, float* out) {
  backward_rows<Simd<16>>(x, gates, grad, rows, width, out);
}

// gates: where sigmoid(g) is kept, undefined where nobody needs it.
at::Tensor gate(const at::Tensor& x, const at::Tensor& gates) {
  const int64_t width = x.size(1) / 2;
  at::Tensor out = at::empty({x.size(0), width}, x.options());
  at::parallel_for(0, x.size(0), ops::cpu::grain(8 * width), [&](int64_t begin, int64_t end) {
    const auto run = ops::cpu::has_avx512() ? forward_wide : forward_narrow;
    run(x.const_data_ptr<float>() + begin * 2 * width, end - begin, width, out.mutable_data_ptr<float>() + begin * width,
        gates.defined() ? gates.mutable_data_ptr<float>() + begin * width : nullptr);
  });
  return out;
}

struct GateFunction : torch::autograd::Function<GateFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& given) {
    const at::Tensor x = given.contiguous(), gates = at::empty({x.size(0), x.size(1) / 2}, x.options());
    context->save_for_backward({x, gates});
    return gate(x, gates);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& grads) {
    const at::Tensor x = context->get_saved_variables()[0], gates = context->get_saved_variables()[1];
    if (at::GradMode::is_enabled()) return {at::glu_backward(grads[0], x, 1)};  // to be differentiated again
    const at::Tensor grad = grads[0].contiguous();
    const int64_t width = x.size(1) / 2;
    at::Tensor out = at::empty_like(x);
    at::parallel_for(0, x.size(0), ops::cpu::grain(8 * width), [&](int64_t begin, int64_t end) {
      const auto run = ops::cpu::has_avx512() ? backward_wide : backward_narrow;
      run(x.const_data_ptr<float>() + begin * 2 * width, gates.const_data_ptr<float>() + begin * width,
          grad.const_data_ptr<float>() + begin * width, end - begin, width, out.mutable_data_ptr<float>() + begin * 2 * width);
    });
    return {out};
  }
};

}  // namespace

torch::Tensor gated_unit(const torch::Tensor& x) {
  ADATAPE_CHECK(x.dim() == 2 && x.size(1) % 2 == 0, "gated unit", "expected [rows, 2 m], got ", x.sizes());
  if (ops::plain_calls() || !x.is_cpu() || x.scalar_type() != at::kFloat) return at::glu(x, -1);
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return gate(x.contiguous(), {});
  return GateFunction::apply(x);
}

}  // namespace adatape
