#include "adatape/nn/gelu_unit.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adatape/ops/activation.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

constexpr int64_t kGrain = 8192;  // elements worth a thread

struct TanhGeluFunction : torch::autograd::Function<TanhGeluFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    context->save_for_backward({x});
    at::Tensor out = at::empty_like(x);
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      ops::cpu::tanh_gelu(x.const_data_ptr<float>() + begin, end - begin, out.mutable_data_ptr<float>() + begin);
    });
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& grads) {
    const at::Tensor x = context->get_saved_variables()[0];
    if (at::GradMode::is_enabled()) return {at::gelu_backward(grads[0], x, "tanh")};  // to be differentiated again
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor out = at::empty_like(x);
    at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
      ops::cpu::tanh_gelu_gradient(x.const_data_ptr<float>() + begin, grad.const_data_ptr<float>() + begin, end - begin,
                                   out.mutable_data_ptr<float>() + begin);
    });
    return {out};
  }
};

}  // namespace

torch::Tensor tanh_gelu(const torch::Tensor& x) {
  if (ops::plain_calls() || !x.is_cpu() || x.scalar_type() != at::kFloat) return at::gelu(x, "tanh");
  return TanhGeluFunction::apply(x.contiguous());
}

}  // namespace adatape
