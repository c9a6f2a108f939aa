#include "adatape/train/optimizer.h"

#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"
#include "adatape/train/load_tensors.h"

namespace adatape {
namespace {

// The CPU kernel walks the memory of parameter and gradient side by side, so their layouts must agree; autograd nearly always sees to it.
at::Tensor in_layout_of(const at::Tensor& parameter, const at::Tensor& gradient) {
  const bool same = (parameter.is_contiguous() && gradient.is_contiguous()) || parameter.strides() == gradient.strides();
  return same ? gradient : at::empty_like(parameter).copy_(gradient);
}

float sum_of_squares(const float* x, int64_t count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

}  // namespace

AdamW::AdamW(const Module& module, AdamWOptions options) : options_(options) {
  const at::NoGradGuard no_grad;
  const std::vector<NamedParameter> named = module.named_parameters();
  ADATAPE_CHECK(!named.empty(), "optimizer", "expected a model with parameters, got one without");
  steps_ = at::zeros({static_cast<int64_t>(named.size())}, named.front().tensor.options().dtype(at::kFloat).requires_grad(false));
  for (const auto& [name, parameter] : named) {
    slots_.push_back({name, parameter, at::zeros_like(parameter), at::zeros_like(parameter), steps_[static_cast<int64_t>(slots_.size())],
                      parameter.dim() >= 2});
  }
}

void AdamW::zero_grad() {
  for (Slot& slot : slots_) slot.parameter.mutable_grad().reset();
}

void AdamW::add_gradients(std::vector<at::Tensor> gradients) {
  const at::NoGradGuard no_grad;
  ADATAPE_CHECK(gradients.size() == slots_.size(), "optimizer", "expected gradients of ", slots_.size(), " parameters, got ",
                gradients.size());
  for (size_t i = 0; i < slots_.size(); ++i) {
    at::Tensor& gradient = slots_[i].parameter.mutable_grad();
    if (!gradients[i].defined()) continue;
    gradient = gradient.defined() ? gradient + gradients[i] : std::move(gradients[i]);
  }
}

std::vector<at::Tensor> AdamW::gradients() const {
  std::vector<at::Tensor> gradients;
  gradients.reserve(slots_.size());
  for (const Slot& slot : slots_) {
    if (slot.parameter.grad().defined()) gradients.push_back(slot.parameter.grad());
  }
  return gradients;
}

at::Tensor AdamW::gradient_norm() const {
  const at::NoGradGuard no_grad;
  const std::vector<at::Tensor> all = gradients();
  if (all.empty()) return at::zeros({}, steps_.options());
  // A small model's gradients are many short tensors: a call for each would take longer than the sum.
  constexpr int64_t kShort = 1 << 14;
  const auto is_short = [](const at::Tensor& x) {
    return x.is_cpu() && x.scalar_type() == at::kFloat && x.is_non_overlapping_and_dense() && x.numel() <= kShort;
  };
  if (!std::all_of(all.begin(), all.end(), is_short)) return at::stack(at::_foreach_norm(all)).norm();
  double squares = 0;
  for (const at::Tensor& gradient : all) squares += sum_of_squares(gradient.const_data_ptr<float>(), gradient.numel());
  return at::scalar_tensor(std::sqrt(squares), steps_.options());
}

void AdamW::step(double learning_rate, const at::Tensor& norm) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> all = gradients();
  if (all.empty()) return;
  if (options_.clip_norm > 0) {
    // On the CPU reading the norm costs nothing and saves a pass; elsewhere the factor stays on the device.
    const bool known_short = norm.is_cpu() && norm.item<double>() <= options_.clip_norm;
    if (!known_short) at::_foreach_mul_(all, (options_.clip_norm / (norm + 1e-6)).clamp_max(1.0));
  }
  if (all.size() == slots_.size()) {
    steps_.add_(1);
  } else {
    std::vector<float> moved(slots_.size());
    for (size_t i = 0; i < slots_.size(); ++i) moved[i] = slots_[i].parameter.grad().defined() ? 1 : 0;
    steps_.add_(at::tensor(moved).to(steps_.device()));
  }
  for (const bool decays : {true, false}) {
    std::vector<at::Tensor> parameters, grads, first, second, steps;
    for (const Slot& slot : slots_) {
      if (slot.decays != decays || !slot.parameter.grad().defined()) continue;
      parameters.push_back(slot.parameter);
      grads.push_back(in_layout_of(slot.parameter, slot.parameter.grad()));
      first.push_back(slot.first_moment);
      second.push_back(slot.second_moment);
      steps.push_back(slot.step);
    }
    if (parameters.empty()) continue;
    at::_fused_adamw_(parameters, grads, first, second, /*max_exp_avg_sqs=*/{}, steps, learning_rate, options_.beta1, options_.beta2,
                      decays ? options_.weight_decay : 0.0, options_.epsilon, /*amsgrad=*/false, /*maximize=*/false);
  }
}

void AdamW::reset() {
  const at::NoGradGuard no_grad;
  steps_.zero_();
  for (Slot& slot : slots_) {
    slot.first_moment.zero_();
    slot.second_moment.zero_();
  }
  zero_grad();
}

std::map<std::string, at::Tensor> AdamW::state() const {
  std::map<std::string, at::Tensor> state;
  for (const Slot& slot : slots_) {
    state[slot.name + "/first_moment"] = slot.first_moment;
    state[slot.name + "/second_moment"] = slot.second_moment;
    state[slot.name + "/step"] = slot.step;
  }
  return state;
}

void AdamW::load_state(const std::map<std::string, at::Tensor>& tensors, const std::string& source) {
  load_tensors(state(), tensors, source);
}

}  // namespace adatape
