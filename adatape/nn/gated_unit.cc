#include "adatape/nn/gated_unit.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "adatape/core/check.h"
#include "adatape/ops/activation.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

// gates: where sigmoid(g) is kept, undefined where nobody needs it.
at::Tensor gate(const at::Tensor& x, const at::Tensor& gates) {
  const int64_t width = x.size(1) / 2;
  at::Tensor out = at::empty({x.size(0), width}, x.options());
  at::parallel_for(0, x.size(0), ops::cpu::grain(8 * width), [&](int64_t begin, int64_t end) {
    ops::cpu::gate(x.const_data_ptr<float>() + begin * 2 * width, end - begin, width, out.mutable_data_ptr<float>() + begin * width,
                   gates.defined() ? gates.mutable_data_ptr<float>() + begin * width : nullptr, width);
  });
  return out;
}

struct GateFunction : torch::autograd::Function<GateFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    const at::Tensor gates = at::empty({x.size(0), x.size(1) / 2}, x.options());
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
      ops::cpu::gate_gradient(x.const_data_ptr<float>() + begin * 2 * width, gates.const_data_ptr<float>() + begin * width, width,
                              grad.const_data_ptr<float>() + begin * width, end - begin, width,
                              out.mutable_data_ptr<float>() + begin * 2 * width);
    });
    return {out};
  }
};

}  // namespace

torch::Tensor gated_unit(const torch::Tensor& x) {
  ADATAPE_CHECK(x.dim() == 2 && x.size(1) % 2 == 0, "gated unit", "expected [rows, 2 m], got ", x.sizes());
  if (ops::plain_calls() || !x.is_cpu() || x.scalar_type() != at::kFloat) return at::glu(x, -1);
  if (!at::GradMode::is_enabled() || !x.requires_grad()) return gate(x.contiguous(), {});
  return GateFunction::apply(x.contiguous());
}

}  // namespace adatape
