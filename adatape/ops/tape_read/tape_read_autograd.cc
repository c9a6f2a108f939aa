// The gradient of adatape::tape_read: thin, over the registered backward op.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "adatape/core/check.h"
#include "adatape/ops/tape_read/tape_read_dispatch.h"

namespace adatape::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

OptionalTensor if_defined(const at::Tensor& tensor) { return tensor.defined() ? OptionalTensor(tensor) : std::nullopt; }

class TapeReadFunction : public torch::autograd::Function<TapeReadFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& query, const at::Tensor& bank,
                               const OptionalTensor& bank_offsets, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                               int64_t key_width, int64_t max_steps, int64_t rows_per_step, double threshold,
                               const OptionalTensor& thresholds, const OptionalTensor& step_limits, const OptionalTensor& bank_mask,
                               const OptionalTensor& order, const OptionalTensor& query_offset, std::string_view query_update,
                               std::string_view ponder, double norm_epsilon) {
    at::AutoDispatchBelowAutograd guard;
    auto [tokens, weights, indices, lengths, ponder_loss, halting] =
        call_tape_read(query, bank, bank_offsets, norm_weight, norm_bias, key_width, max_steps, rows_per_step, threshold, thresholds,
                       step_limits, bank_mask, order, query_offset, query_update, ponder, norm_epsilon);
    context->set_materialize_grads(false);
    context->save_for_backward({query, bank, bank_offsets.value_or(at::Tensor()), norm_weight, norm_bias, weights, indices, lengths,
                                query_offset.value_or(at::Tensor())});
    context->saved_data["key_width"] = key_width;
    context->saved_data["fixed_order"] = order.has_value();
    context->saved_data["query_update"] = std::string(query_update);
    context->saved_data["ponder"] = std::string(ponder);
    context->saved_data["norm_epsilon"] = norm_epsilon;
    context->mark_non_differentiable({indices, lengths, halting});
    return {tokens, weights, indices, lengths, ponder_loss, halting};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const std::string query_update = context->saved_data["query_update"].toStringRef();
    const std::string ponder = context->saved_data["ponder"].toStringRef();
    auto [grad_query, grad_bank, grad_norm_weight, grad_norm_bias] = call_tape_read_backward(
        if_defined(grads[0]), if_defined(grads[1]), if_defined(grads[4]), saved[0], saved[1], if_defined(saved[2]), saved[3], saved[4],
        saved[5], saved[6], saved[7], context->saved_data["key_width"].toInt(), context->saved_data["fixed_order"].toBool(), query_update,
        ponder, context->saved_data["norm_epsilon"].toDouble(), if_defined(saved[8]));
    variable_list result(17);  // one for each argument of forward
    result[0] = grad_query;
    result[1] = grad_bank;
    result[3] = grad_norm_weight;
    result[4] = grad_norm_bias;
    return result;
  }
};

TapeReadResult tape_read_autograd(const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets,
                                  const at::Tensor& norm_weight, const at::Tensor& norm_bias, int64_t key_width, int64_t max_steps,
                                  int64_t rows_per_step, double threshold, const OptionalTensor& thresholds,
                                  const OptionalTensor& step_limits, const OptionalTensor& bank_mask, const OptionalTensor& order,
                                  const OptionalTensor& query_offset, std::string_view query_update, std::string_view ponder,
                                  double norm_epsilon) {
  const variable_list result =
      TapeReadFunction::apply(query, bank, bank_offsets, norm_weight, norm_bias, key_width, max_steps, rows_per_step, threshold, thresholds,
                              step_limits, bank_mask, order, query_offset, query_update, ponder, norm_epsilon);
  return {result[0], result[1], result[2], result[3], result[4], result[5]};
}

// Exists to say that there is no second derivative, instead of treating the first one as a constant.
class TapeReadBackwardFunction : public torch::autograd::Function<TapeReadBackwardFunction> {
 public:
  static variable_list forward(AutogradContext*, const OptionalTensor& grad_tokens, const OptionalTensor& grad_weights,
                               const OptionalTensor& grad_ponder, const at::Tensor& query, const at::Tensor& bank,
                               const OptionalTensor& bank_offsets, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                               const at::Tensor& weights, const at::Tensor& indices, const at::Tensor& lengths, int64_t key_width,
                               bool fixed_order, std::string_view query_update, std::string_view ponder, double norm_epsilon,
                               const OptionalTensor& query_offset) {
    at::AutoDispatchBelowAutograd guard;
    auto [grad_query, grad_bank, grad_norm_weight, grad_norm_bias] =
        call_tape_read_backward(grad_tokens, grad_weights, grad_ponder, query, bank, bank_offsets, norm_weight, norm_bias, weights, indices,
                                lengths, key_width, fixed_order, query_update, ponder, norm_epsilon, query_offset);
    return {grad_query, grad_bank, grad_norm_weight, grad_norm_bias};
  }

  static variable_list backward(AutogradContext*, const variable_list&) {
    throw Error("tape_read: expected one differentiation, got a second one; it has no second derivative, detach its gradient first");
  }
};

TapeReadGradients tape_read_backward_autograd(const OptionalTensor& grad_tokens, const OptionalTensor& grad_weights,
                                              const OptionalTensor& grad_ponder, const at::Tensor& query, const at::Tensor& bank,
                                              const OptionalTensor& bank_offsets, const at::Tensor& norm_weight,
                                              const at::Tensor& norm_bias, const at::Tensor& weights, const at::Tensor& indices,
                                              const at::Tensor& lengths, int64_t key_width, bool fixed_order, std::string_view query_update,
                                              std::string_view ponder, double norm_epsilon, const OptionalTensor& query_offset) {
  const variable_list result =
      TapeReadBackwardFunction::apply(grad_tokens, grad_weights, grad_ponder, query, bank, bank_offsets, norm_weight, norm_bias, weights,
                                      indices, lengths, key_width, fixed_order, query_update, ponder, norm_epsilon, query_offset);
  return {result[0], result[1], result[2], result[3]};
}

}  // namespace

TORCH_LIBRARY_IMPL(adatape, Autograd, m) {
  m.impl("tape_read", &tape_read_autograd);
  m.impl("tape_read_backward", &tape_read_backward_autograd);
}

}  // namespace adatape::ops
