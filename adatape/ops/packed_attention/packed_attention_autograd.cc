// The gradients of adatape::packed_attention and packed_self_attention: thin, over the registered backward ops.
#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "adatape/core/check.h"
#include "adatape/ops/packed_attention/packed_attention_dispatch.h"

namespace adatape::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class PackedAttentionFunction : public torch::autograd::Function<PackedAttentionFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                               const at::Tensor& query_offsets, const at::Tensor& key_offsets, bool causal, double scale) {
    at::AutoDispatchBelowAutograd guard;
    auto [output, logsumexp] = call_packed_attention(query, key, value, query_offsets, key_offsets, causal, scale);
    context->save_for_backward({query, key, value, query_offsets, key_offsets, output, logsumexp});
    context->saved_data["causal"] = causal;
    context->saved_data["scale"] = scale;
    context->mark_non_differentiable({logsumexp});
    return {output, logsumexp};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    auto [query, key, value] =
        call_packed_attention_backward(grads[0], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], saved[6],
                                       context->saved_data["causal"].toBool(), context->saved_data["scale"].toDouble());
    return {query, key, value, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

class PackedSelfAttentionFunction : public torch::autograd::Function<PackedSelfAttentionFunction> {
 public:
  static variable_list forward(AutogradContext* context, const at::Tensor& qkv, const at::Tensor& offsets, bool causal, double scale) {
    at::AutoDispatchBelowAutograd guard;
    auto [output, logsumexp] = call_packed_self_attention(qkv, offsets, causal, scale);
    context->save_for_backward({qkv, offsets, output, logsumexp});
    context->saved_data["causal"] = causal;
    context->saved_data["scale"] = scale;
    context->mark_non_differentiable({logsumexp});
    return {output, logsumexp};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    return {call_packed_self_attention_backward(grads[0], saved[0], saved[1], saved[2], saved[3], context->saved_data["causal"].toBool(),
                                                context->saved_data["scale"].toDouble()),
            at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

PackedAttentionResult attention_autograd(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                         const at::Tensor& query_offsets, const at::Tensor& key_offsets, bool causal, double scale) {
  const variable_list result = PackedAttentionFunction::apply(query, key, value, query_offsets, key_offsets, causal, scale);
  return {result[0], result[1]};
}

PackedAttentionResult self_attention_autograd(const at::Tensor& qkv, const at::Tensor& offsets, bool causal, double scale) {
  const variable_list result = PackedSelfAttentionFunction::apply(qkv, offsets, causal, scale);
  return {result[0], result[1]};
}

constexpr const char* kNoSecond =
    "packed_attention: expected one differentiation, got a second one; it has no second derivative, detach its gradient first";

// These exist to say that there is no second derivative, instead of treating the first one as a constant.
class PackedAttentionBackwardFunction : public torch::autograd::Function<PackedAttentionBackwardFunction> {
 public:
  static variable_list forward(AutogradContext*, const at::Tensor& grad_output, const at::Tensor& query, const at::Tensor& key,
                               const at::Tensor& value, const at::Tensor& query_offsets, const at::Tensor& key_offsets,
                               const at::Tensor& output, const at::Tensor& logsumexp, bool causal, double scale) {
    at::AutoDispatchBelowAutograd guard;
    auto [grad_query, grad_key, grad_value] =
        call_packed_attention_backward(grad_output, query, key, value, query_offsets, key_offsets, output, logsumexp, causal, scale);
    return {grad_query, grad_key, grad_value};
  }
  static variable_list backward(AutogradContext*, const variable_list&) { throw Error(kNoSecond); }
};

class PackedSelfAttentionBackwardFunction : public torch::autograd::Function<PackedSelfAttentionBackwardFunction> {
 public:
  static at::Tensor forward(AutogradContext*, const at::Tensor& grad_output, const at::Tensor& qkv, const at::Tensor& offsets,
                            const at::Tensor& output, const at::Tensor& logsumexp, bool causal, double scale) {
    at::AutoDispatchBelowAutograd guard;
    return call_packed_self_attention_backward(grad_output, qkv, offsets, output, logsumexp, causal, scale);
  }
  static variable_list backward(AutogradContext*, const variable_list&) { throw Error(kNoSecond); }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_backward_autograd(const at::Tensor& grad_output, const at::Tensor& query,
                                                                           const at::Tensor& key, const at::Tensor& value,
                                                                           const at::Tensor& query_offsets, const at::Tensor& key_offsets,
                                                                           const at::Tensor& output, const at::Tensor& logsumexp,
                                                                           bool causal, double scale) {
  const variable_list result =
      PackedAttentionBackwardFunction::apply(grad_output, query, key, value, query_offsets, key_offsets, output, logsumexp, causal, scale);
  return {result[0], result[1], result[2]};
}

at::Tensor self_attention_backward_autograd(const at::Tensor& grad_output, const at::Tensor& qkv, const at::Tensor& offsets,
                                            const at::Tensor& output, const at::Tensor& logsumexp, bool causal, double scale) {
  return PackedSelfAttentionBackwardFunction::apply(grad_output, qkv, offsets, output, logsumexp, causal, scale);
}

}  // namespace

TORCH_LIBRARY_IMPL(adatape, Autograd, m) {
  m.impl("packed_attention", &attention_autograd);
  m.impl("packed_attention_backward", &attention_backward_autograd);
  m.impl("packed_self_attention", &self_attention_autograd);
  m.impl("packed_self_attention_backward", &self_attention_backward_autograd);
}

}  // namespace adatape::ops
