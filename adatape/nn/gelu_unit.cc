#include "adatape/nn/gelu_unit.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adatape/ops/cpu_simd.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

using ops::cpu::load_part;
using ops::cpu::sigmoid;
using ops::cpu::Simd;
using ops::cpu::store_part;

constexpr float kLinear = 1.5957691216057308f, kCubic = 0.07135481282553925f;  // 2 sqrt(2 / pi), and 0.044715 times that

template <class S>
ADATAPE_ALWAYS_INLINE void forward_of(const float* x, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += S::kLanes) {
    typename S::Floats v, gate;
    load_part<S>(v, x + i, count - i);
    gate = v * (kLinear + kCubic * v * v);
    sigmoid<S>(gate);
    store_part<S>(out + i, v * gate, count - i);
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void backward_of(const float* x, const float* grad, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += S::kLanes) {
    typename S::Floats v, gate, d;
    load_part<S>(v, x + i, count - i);
    load_part<S>(d, grad + i, count - i);
    const typename S::Floats square = v * v;
    gate = v * (kLinear + kCubic * square);
    sigmoid<S>(gate);
    store_part<S>(out + i, d * gate * (1.0f + v * (1.0f - gate) * (kLinear + 3.0f * kCubic * square)), count - i);
  }
}

ADATAPE_CPU_CLONES void forward_narrow(const float* x, int64_t count, float* out) { forward_of<Simd<8>>(x, count, out); }
ADATAPE_CPU_AVX512 void forward_wide(const float* x, int64_t count, float* out) { forward_of<Simd<16>>(x, count, out); }
ADATAPE_CPU_CLONES void backward_narrow(const float* x, const float* grad, int64_t count, float* out) {
  backward_of<Simd<8>>(x, grad, count, out);
}
ADATAPE_CPU_AVX512 void backward_wide(const float* x, const float* grad, int64_t count, float* out) {
  backward_of<Simd<16>>(x, grad, count, out);
}

constexpr int64_t kGrain = 8192;  // elements worth a thread

struct TanhGeluFunction : torch::autograd::Function<TanhGeluFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& given) {
    const at::Tensor x = given.contiguous();
    context->save_for_backward({x});
    at::Tensor out = at::empty_like(x);
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      const auto run = ops::cpu::has_avx512() ? forward_wide : forward_narrow;
      run(x.const_data_ptr<float>() + begin, end - begin, out.mutable_data_ptr<float>() + begin);
    });
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& grads) {
    const at::Tensor x = context->get_saved_variables()[0];
    if (at::GradMode::is_enabled()) return {at::gelu_backward(grads[0], x, "tanh")};  // to be differentiated again
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor out = at::empty_like(x);
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      const auto run = ops::cpu::has_avx512() ? backward_wide : backward_narrow;
      run(x.const_data_ptr<float>() + begin, grad.const_data_ptr<float>() + begin, end - begin, out.mutable_data_ptr<float>() + begin);
    });
    return {out};
  }
};

}  // namespace

torch::Tensor tanh_gelu(const torch::Tensor& x) {
  if (ops::plain_calls() || !x.is_cpu() || x.scalar_type() != at::kFloat) return at::gelu(x, "tanh");
  return TanhGeluFunction::apply(x);
}

}  // namespace adatape
