#include "adatape/ops/half_block/half_block.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_flash_attention_backward.h>
#include <ATen/ops/_flash_attention_forward.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/stack.h>
#include <torch/csrc/autograd/custom_function.h>

#include <unordered_map>

#include "adatape/core/check.h"
#include "adatape/ops/cuda_architecture.h"
#include "adatape/ops/kernel_record.h"

namespace adatape::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct Copies {
  int scopes = 0;
  std::unordered_map<const void*, std::pair<at::Tensor, at::Tensor>> of;  // of a weight: the weight (kept alive) and its copy
};
thread_local Copies copies;

bool any_gradient(std::initializer_list<at::Tensor> tensors) {
  if (!at::GradMode::is_enabled()) return false;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.defined() && tensor.requires_grad()) return true;
  }
  return false;
}

void keep_split(AutogradContext* context, const RowSplit& split) {
  context->saved_data["places"] = split.places;
  context->saved_data["first"] = split.first;
}

RowSplit kept_split(AutogradContext* context) {
  RowSplit split;
  if (const c10::IValue& places = context->saved_data["places"]; places.isTensor()) split.places = places.toTensor();
  split.first = context->saved_data["first"].toInt();
  return split;
}

at::Tensor if_whole(const at::Tensor& grad) { return grad.defined() ? grad.contiguous() : at::Tensor(); }

void record_products() { ADATAPE_RECORD_ONCE(record_kernel(kMatrixProducts, "cublasLt bfloat16")); }

void refuse_second_derivative() {
  ADATAPE_CHECK(!at::GradMode::is_enabled(), "half block", "expected one differentiation, got a second one; train in float32 for that");
}

struct ResidualNorm : Function<ResidualNorm> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& branch,
                               const at::Tensor& weight, const at::Tensor& bias, double epsilon, const RowSplit& split) {
    auto [sum, first, second, statistics] =
        cuda_kernels().residual_norm(x, branch.value_or(at::Tensor()), weight, bias, epsilon, split, /*keep=*/true);
    context->set_materialize_grads(false);
    context->saved_data["statistics"] = statistics;
    context->saved_data["branch"] = branch.has_value();
    keep_split(context, split);
    // Where there is no branch, sum is x handed on, so that the gradient of what follows is added in the same pass.
    context->save_for_backward({sum, weight});
    return second.defined() ? variable_list{sum, first, second} : variable_list{sum, first};
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const auto [of_sum, of_branch, of_weight, of_bias] = cuda_kernels().residual_norm_backward(
        if_whole(grads[0]), if_whole(grads[1]), grads.size() > 2 ? if_whole(grads[2]) : at::Tensor(), saved[0],
        context->saved_data["statistics"].toTensor(), saved[1], kept_split(context), context->saved_data["branch"].toBool());
    return {of_sum, of_branch, of_weight, of_bias, at::Tensor(), at::Tensor()};
  }
};

struct ResidualAdd : Function<ResidualAdd> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& first, const std::optional<at::Tensor>& second,
                            const RowSplit& split) {
    keep_split(context, split);
    return cuda_kernels().residual_add(x, first, second.value_or(at::Tensor()), split);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    refuse_second_derivative();
    const at::Tensor grad = grads[0].contiguous();
    const auto [first, second] = cuda_kernels().split_rows(grad, kept_split(context));
    return {grad, first, second, at::Tensor()};
  }
};

struct SegmentSums : Function<SegmentSums> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& offsets, const at::Tensor& example) {
    context->saved_data["example"] = example;
    context->saved_data["type"] = static_cast<int64_t>(x.scalar_type());
    return cuda_kernels().segment_sums(x, offsets);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    return {grads[0].to(type).index_select(0, context->saved_data["example"].toTensor()), at::Tensor(), at::Tensor()};
  }
};

struct HalfLinear : Function<HalfLinear> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    const at::Tensor half = half_copy(weight);
    context->save_for_backward({x});
    context->saved_data["weight"] = half;
    return cuda_kernels().half_forward({x, half, half_copy(bias), false, {}, {}});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    refuse_second_derivative();
    const at::Tensor grad = grads[0].contiguous(), x = context->get_saved_variables()[0];
    at::Tensor of_x;
    if (context->needs_input_grad(0))
      of_x = std::get<0>(cuda_kernels().half_input_gradient(grad, context->saved_data["weight"].toTensor(), {}));
    const auto [of_weight, of_bias] = cuda_kernels().half_weight_gradient(grad, x, true);
    return {of_x, of_weight, of_bias};
  }
};

struct HalfMlp : Function<HalfMlp> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight_1, const at::Tensor& bias_1,
                            const at::Tensor& weight_2, const at::Tensor& bias_2, bool tanh) {
    const at::Tensor first = half_copy(weight_1), second = half_copy(weight_2);
    at::Tensor before, wide;
    if (tanh) {
      before = at::empty({x.size(0), first.size(0)}, x.options());
      wide = cuda_kernels().half_forward({x, first, half_copy(bias_1), true, before, {}});
    } else {
      before = cuda_kernels().half_forward({x, first, half_copy(bias_1), false, {}, {}});
      wide = at::gelu(before, "none");
    }
    context->save_for_backward({x});
    context->saved_data["tensors"] = std::vector<at::Tensor>{before, wide, first, second};
    context->saved_data["tanh"] = tanh;
    return cuda_kernels().half_forward({wide, second, half_copy(bias_2), false, {}, {}});
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    refuse_second_derivative();
    const at::Tensor grad = grads[0].contiguous(), x = context->get_saved_variables()[0];
    const std::vector<at::Tensor> kept = context->saved_data["tensors"].toTensorVector();
    const at::Tensor &before = kept[0], &wide = kept[1], &first = kept[2], &second = kept[3];
    const bool tanh = context->saved_data["tanh"].toBool();
    auto [of_before, of_bias_1] = cuda_kernels().half_input_gradient(grad, second, tanh ? before : at::Tensor());
    if (!tanh) of_before = at::gelu_backward(of_before, before, "none");
    const auto [of_weight_2, of_bias_2] = cuda_kernels().half_weight_gradient(grad, wide, true);
    const auto [of_weight_1, summed] = cuda_kernels().half_weight_gradient(of_before, x, !of_bias_1.defined());
    at::Tensor of_x;
    if (context->needs_input_grad(0)) of_x = std::get<0>(cuda_kernels().half_input_gradient(of_before, first, {}));
    return {of_x, of_weight_1, of_bias_1.defined() ? of_bias_1 : summed, of_weight_2, of_bias_2, at::Tensor()};
  }
};

struct HalfSelfAttention : Function<HalfSelfAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& qkv, const at::Tensor& lengths, int64_t longest, bool causal,
                            double scale) {
    auto [out, logsumexp, rng_state, unused, mask] = at::_flash_attention_forward(
        qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), lengths, lengths, longest, longest, 0.0, causal, false, scale);
    context->save_for_backward({qkv, out});
    context->saved_data["tensors"] = std::vector<at::Tensor>{logsumexp, rng_state, unused, lengths};
    context->saved_data["longest"] = longest;
    context->saved_data["causal"] = causal;
    context->saved_data["scale"] = scale;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    refuse_second_derivative();
    const variable_list saved = context->get_saved_variables();
    const std::vector<at::Tensor> kept = context->saved_data["tensors"].toTensorVector();
    const int64_t longest = context->saved_data["longest"].toInt();
    const at::Tensor &qkv = saved[0], &lengths = kept[3];
    const auto [query, key, value] = at::_flash_attention_backward(
        grads[0].contiguous(), qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), saved[1], kept[0], lengths, lengths, longest, longest,
        0.0, context->saved_data["causal"].toBool(), kept[1], kept[2], context->saved_data["scale"].toDouble());
    return {at::stack({query, key, value}, 1), at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

HalfScope::HalfScope() { ++copies.scopes; }
HalfScope::~HalfScope() {
  if (--copies.scopes == 0) copies.of.clear();
}
bool half_products() { return copies.scopes > 0; }

at::Tensor half_copy(const at::Tensor& weight) {
  const at::NoGradGuard no_grad;
  if (copies.scopes == 0) return weight.to(at::kBFloat16);
  auto& [owner, copy] = copies.of[weight.unsafeGetTensorImpl()];
  if (!owner.defined()) {
    owner = weight;
    copy = weight.detach().to(at::kBFloat16);
  }
  return copy;
}

bool has_half_block(const at::Tensor& x, int64_t dim) { return dim % 8 == 0 && dim <= 2048 && has_cuda_kernels_on(x.device()); }

std::tuple<at::Tensor, at::Tensor, at::Tensor> residual_norm(const at::Tensor& given, const at::Tensor& given_branch,
                                                             const at::Tensor& weight, const at::Tensor& bias, double epsilon,
                                                             const RowSplit& split) {
  ADATAPE_RECORD_ONCE(record_kernel(kNorms, "CUDA kernel with residual sums"));
  const at::Tensor x = given.contiguous(), branch = given_branch.defined() ? given_branch.contiguous() : given_branch;
  if (!any_gradient({x, branch, weight, bias})) {
    const auto [sum, first, second, statistics] = cuda_kernels().residual_norm(x, branch, weight, bias, epsilon, split, /*keep=*/false);
    return {sum, first, second};
  }
  const variable_list out = ResidualNorm::apply(x, branch.defined() ? std::optional(branch) : std::nullopt, weight, bias, epsilon, split);
  return {out[0], out[1], out.size() > 2 ? out[2] : at::Tensor()};
}

at::Tensor residual_add(const at::Tensor& x, const at::Tensor& first, const at::Tensor& second, const RowSplit& split) {
  if (!any_gradient({x, first, second})) return cuda_kernels().residual_add(x, first, second, split);
  return ResidualAdd::apply(x, first, second.defined() ? std::optional(second) : std::nullopt, split);
}

at::Tensor segment_sums(const at::Tensor& x, const at::Tensor& offsets, const at::Tensor& example) {
  return any_gradient({x}) ? SegmentSums::apply(x, offsets, example) : cuda_kernels().segment_sums(x, offsets);
}

at::Tensor half_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& residual) {
  record_products();
  if (!any_gradient({x, weight, bias})) return cuda_kernels().half_forward({x, half_copy(weight), half_copy(bias), false, {}, residual});
  ADATAPE_CHECK(!residual.defined(), "half block", "expected no residual where a gradient is asked for");
  return HalfLinear::apply(x.contiguous(), weight, bias);
}

at::Tensor half_mlp(const at::Tensor& x, const at::Tensor& weight_1, const at::Tensor& bias_1, const at::Tensor& weight_2,
                    const at::Tensor& bias_2, bool tanh, const at::Tensor& residual) {
  record_products();
  if (any_gradient({x, weight_1, bias_1, weight_2, bias_2})) {
    ADATAPE_CHECK(!residual.defined(), "half block", "expected no residual where a gradient is asked for");
    return HalfMlp::apply(x.contiguous(), weight_1, bias_1, weight_2, bias_2, tanh);
  }
  at::Tensor wide = cuda_kernels().half_forward({x, half_copy(weight_1), half_copy(bias_1), tanh, {}, {}});
  if (!tanh) at::gelu_(wide, "none");
  return cuda_kernels().half_forward({wide, half_copy(weight_2), half_copy(bias_2), false, {}, residual});
}

at::Tensor half_self_attention(const at::Tensor& qkv, const at::Tensor& cumulative_lengths, int64_t longest, bool causal, double scale) {
  ADATAPE_RECORD_ONCE(record_kernel(kAttention, "flash attention of many lengths"));
  if (any_gradient({qkv})) return HalfSelfAttention::apply(qkv, cumulative_lengths, longest, causal, scale);
  return std::get<0>(at::_flash_attention_forward(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), cumulative_lengths,
                                                  cumulative_lengths, longest, longest, 0.0, causal, false, scale));
}

}  // namespace adatape::ops
