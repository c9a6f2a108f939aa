#include "adatape/ops/dense_linear/dense_linear.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/dense_linear/matrix_product.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/plain_calls.h"

namespace adatape::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kComponent[] = "dense_linear";

// MKL, which LibTorch brings, takes AVX2 on processors that are not Intel's.
bool mkl_takes_avx2() {
#if defined(__x86_64__)
  static const bool not_intel = !__builtin_cpu_is("intel");
  return not_intel;
#else
  return false;
#endif
}

cpu::Matrix matrix(const at::Tensor& x) { return {x.const_data_ptr<float>(), x.stride(0), x.stride(1)}; }
cpu::Matrix transposed(const at::Tensor& x) { return {x.const_data_ptr<float>(), x.stride(1), x.stride(0)}; }

at::Tensor forward_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options());
  const at::Tensor biases = bias.defined() ? bias.contiguous() : bias;
  cpu::matrix_product(x.size(0), x.size(1), weight.size(0), matrix(x), transposed(weight),
                      biases.defined() ? biases.const_data_ptr<float>() : nullptr, out.mutable_data_ptr<float>());
  return out;
}

class DenseLinearFunction : public torch::autograd::Function<DenseLinearFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias) {
    at::AutoDispatchBelowAutograd guard;
    context->save_for_backward({x, weight});
    context->saved_data["bias"] = bias.has_value();
    return forward_product(x, weight, bias.value_or(at::Tensor()));
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &grad = grads[0];
    at::Tensor of_x, of_weight, of_bias;
    const bool bias_too = context->saved_data["bias"].toBool() && context->needs_input_grad(2);
    if (at::GradMode::is_enabled()) {
      if (context->needs_input_grad(0)) of_x = grad.matmul(weight);
      if (context->needs_input_grad(1)) of_weight = grad.t().matmul(x);
      if (bias_too) of_bias = grad.sum(0);
      return {of_x, of_weight, of_bias};
    }
    at::AutoDispatchBelowAutograd guard;
    const int64_t rows = x.size(0), in = x.size(1), out = weight.size(0);
    if (context->needs_input_grad(0)) {
      of_x = at::empty({rows, in}, x.options());
      cpu::matrix_product(rows, out, in, matrix(grad), matrix(weight), nullptr, of_x.mutable_data_ptr<float>());
    }
    if (context->needs_input_grad(1)) {
      of_weight = at::empty({out, in}, x.options());
      cpu::matrix_product(out, rows, in, transposed(grad), matrix(x), nullptr, of_weight.mutable_data_ptr<float>());
    }
    if (bias_too) {
      of_bias = at::empty({out}, x.options());
      cpu::column_sums(rows, out, grad.contiguous().const_data_ptr<float>(), of_bias.mutable_data_ptr<float>());
    }
    return {of_x, of_weight, of_bias};
  }
};

}  // namespace

bool has_dense_linear(const at::Tensor& x, const at::Tensor& weight) {
  // Below, reordering the weight or empty lanes cost more than is won; of small products, the calls around them cost more than these.
  constexpr int64_t kFewestRows = 48, kNarrowest = 8, kSmall = 1 << 15;
  return !plain_calls() && mkl_takes_avx2() && x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat &&
         x.dim() == 2 && x.size(0) >= kFewestRows && weight.size(1) >= kNarrowest && (weight.size(0) >= kNarrowest || x.numel() <= kSmall);
}

at::Tensor dense_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  for (const auto& [name, tensor] : {std::pair<const char*, const at::Tensor&>{"x", x}, {"weight", weight}, {"bias", bias}}) {
    ADATAPE_CHECK(!tensor.defined() || (tensor.is_cpu() && tensor.scalar_type() == at::kFloat), kComponent, "expected ", name,
                  " of float32 on the CPU, got ", tensor.toString());
  }
  ADATAPE_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1), kComponent,
                "expected x [rows, in] and weight [out, in], got ", x.sizes(), " and ", weight.sizes());
  ADATAPE_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0)), kComponent, "expected bias [", weight.size(0),
                "], got ", bias.sizes());
  ADATAPE_RECORD_ONCE(record_cpu_kernel(kMatrixProducts, "dense", cpu::has_avx512() ? 16 : 8));
  const bool graph =
      at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() || (bias.defined() && bias.requires_grad()));
  if (!graph) return forward_product(x, weight, bias);
  return DenseLinearFunction::apply(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt);
}

}  // namespace adatape::ops
