#include "adatape/nn/expert_rows.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

#include "adatape/nn/pack_layout.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t tokens_of(const ExpertRows& plan) { return static_cast<int64_t>(plan.slots.size()) / plan.selected; }

struct Holder : torch::CustomClassHolder {
  explicit Holder(std::shared_ptr<const ExpertRows> plan_) : plan(std::move(plan_)) {}
  std::shared_ptr<const ExpertRows> plan;
};

void keep(AutogradContext* context, const std::shared_ptr<const ExpertRows>& plan) {
  context->saved_data["plan"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(plan));
}

std::shared_ptr<const ExpertRows> kept(AutogradContext* context) {
  return c10::static_intrusive_pointer_cast<Holder>(context->saved_data["plan"].toCapsule())->plan;
}

// In plain calls, for other devices and dtypes, and where the gradient is itself differentiated.

torch::Tensor choices_of(const ExpertRows& plan, size_t slot, const torch::Tensor& like) {
  return index_tensor(plan.choices[slot], like.device());
}

std::vector<torch::Tensor> plain_to_experts(const torch::Tensor& x, const ExpertRows& plan) {
  std::vector<torch::Tensor> out;
  for (size_t s = 0; s < plan.experts.size(); ++s) out.push_back(x.index_select(0, choices_of(plan, s, x).div(plan.selected, "floor")));
  return out;
}

// gates undefined: all 1.
torch::Tensor plain_from_experts(const std::vector<torch::Tensor>& answers, const torch::Tensor& gates, const ExpertRows& plan) {
  torch::Tensor out = torch::zeros({tokens_of(plan), answers.front().size(1)}, answers.front().options().requires_grad(false));
  for (size_t s = 0; s < answers.size(); ++s) {
    const torch::Tensor choices = choices_of(plan, s, out);
    const torch::Tensor answer = gates.defined() ? answers[s] * gates.reshape({-1}).index_select(0, choices).unsqueeze(1) : answers[s];
    out = out.index_add(0, choices.div(plan.selected, "floor"), answer);
  }
  return out;
}

variable_list plain_from_experts_gradient(const torch::Tensor& grad, const std::vector<torch::Tensor>& answers, const torch::Tensor& gates,
                                          const ExpertRows& plan) {
  variable_list result = plain_to_experts(grad, plan);
  torch::Tensor grad_gates = torch::zeros({gates.numel()}, gates.options().requires_grad(false));
  for (size_t s = 0; s < answers.size(); ++s) {
    const torch::Tensor choices = choices_of(plan, s, grad);
    grad_gates = grad_gates.index_add(0, choices, (result[s] * answers[s]).sum(1));
    result[s] = result[s] * gates.reshape({-1}).index_select(0, choices).unsqueeze(1);
  }
  result.push_back(grad_gates.view(gates.sizes()));
  return result;
}

// One pass over tokens begin .. end. slots: the first row of each slot; gates null: all 1.

ADATAPE_CPU_CLONES void gather(const ExpertRows& plan, const float* gates, float* const* slots, int64_t width, int64_t begin, int64_t end,
                               float* out) {
  for (int64_t token = begin; token < end; ++token) {
    float* const to = out + token * width;
    bool first = true;
    for (int64_t choice = token * plan.selected; choice < (token + 1) * plan.selected; ++choice) {
      if (plan.slots[static_cast<size_t>(choice)] < 0) continue;
      const float* const from = slots[plan.slots[static_cast<size_t>(choice)]] + plan.rows[static_cast<size_t>(choice)] * width;
      const float gate = gates == nullptr ? 1.0f : gates[choice];
      if (first) {
#pragma omp simd
        for (int64_t f = 0; f < width; ++f) to[f] = gate * from[f];
      } else {
#pragma omp simd
        for (int64_t f = 0; f < width; ++f) to[f] += gate * from[f];
      }
      first = false;
    }
    if (first) std::memset(to, 0, static_cast<size_t>(width) * sizeof(float));
  }
}

// grad [T, width] times the gates to the rows of the slots; its product with the answers is the gates' gradient.
ADATAPE_CPU_CLONES void scatter(const ExpertRows& plan, const float* grad, const float* gates, float* const* answers, float* const* slots,
                                int64_t width, int64_t begin, int64_t end, float* grad_gates) {
  for (int64_t token = begin; token < end; ++token) {
    const float* const from = grad + token * width;
    for (int64_t choice = token * plan.selected; choice < (token + 1) * plan.selected; ++choice) {
      float product = 0;
      if (plan.slots[static_cast<size_t>(choice)] >= 0) {
        const int64_t slot = plan.slots[static_cast<size_t>(choice)], at = plan.rows[static_cast<size_t>(choice)] * width;
        const float* const answer = answers[slot] + at;
        float* const to = slots[slot] + at;
        const float gate = gates[choice];
#pragma omp simd reduction(+ : product)
        for (int64_t f = 0; f < width; ++f) {
          product += from[f] * answer[f];
          to[f] = gate * from[f];
        }
      }
      grad_gates[choice] = product;
    }
  }
}

std::vector<float*> first_rows(const variable_list& slots) {
  std::vector<float*> rows;
  for (const torch::Tensor& slot : slots) rows.push_back(const_cast<float*>(slot.const_data_ptr<float>()));
  return rows;
}

variable_list contiguous(at::TensorList slots) {
  variable_list out;
  for (const torch::Tensor& slot : slots) out.push_back(slot.contiguous());
  return out;
}

variable_list empty_slots(const ExpertRows& plan, int64_t width, const torch::TensorOptions& options) {
  variable_list slots;
  for (const std::vector<int64_t>& choices : plan.choices)
    slots.push_back(at::empty({static_cast<int64_t>(choices.size()), width}, options));
  return slots;
}

torch::Tensor gathered(const ExpertRows& plan, const variable_list& slots, const float* gates) {
  const int64_t width = slots.front().size(1), tokens = tokens_of(plan);
  torch::Tensor out = at::empty({tokens, width}, slots.front().options());
  const std::vector<float*> from = first_rows(slots);
  float* const to = out.mutable_data_ptr<float>();
  at::parallel_for(0, tokens, ops::cpu::grain(plan.selected * width),
                   [&](int64_t begin, int64_t end) { gather(plan, gates, from.data(), width, begin, end, to); });
  return out;
}

struct ToExperts : torch::autograd::Function<ToExperts> {
  static variable_list forward(AutogradContext* context, const at::Tensor& given, const std::shared_ptr<const ExpertRows>& plan) {
    const at::Tensor x = given.contiguous();
    const int64_t width = x.size(1);
    variable_list slots = empty_slots(*plan, width, x.options());
    const std::vector<float*> to = first_rows(slots);
    const float* const from = x.const_data_ptr<float>();
    // By tokens, so that a thread copies what it made: each expert's rows are shared among threads in the same order.
    at::parallel_for(0, x.size(0), ops::cpu::grain(plan->selected * width), [&](int64_t begin, int64_t end) {
      for (int64_t choice = begin * plan->selected; choice < end * plan->selected; ++choice) {
        const auto i = static_cast<size_t>(choice);
        if (plan->slots[i] < 0) continue;
        std::memcpy(to[static_cast<size_t>(plan->slots[i])] + plan->rows[i] * width, from + choice / plan->selected * width,
                    static_cast<size_t>(width) * sizeof(float));
      }
    });
    keep(context, plan);
    return slots;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const std::shared_ptr<const ExpertRows> plan = kept(context);
    if (at::GradMode::is_enabled()) return {plain_from_experts(grads, {}, *plan), at::Tensor()};
    return {gathered(*plan, contiguous(grads), nullptr), at::Tensor()};
  }
};

struct FromExperts : torch::autograd::Function<FromExperts> {
  // Sources: the answers and, last, the gates.
  static at::Tensor forward(AutogradContext* context, at::TensorList sources, const std::shared_ptr<const ExpertRows>& plan) {
    const variable_list all = contiguous(sources);
    context->save_for_backward(all);
    keep(context, plan);
    return gathered(*plan, {all.begin(), all.end() - 1}, all.back().const_data_ptr<float>());
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const std::shared_ptr<const ExpertRows> plan = kept(context);
    variable_list answers = context->get_saved_variables();
    const at::Tensor gates = answers.back();
    answers.pop_back();
    variable_list result;
    if (at::GradMode::is_enabled()) {
      result = plain_from_experts_gradient(grads[0], answers, gates, *plan);
    } else {
      const at::Tensor grad = grads[0].contiguous();
      const int64_t width = grad.size(1);
      result = empty_slots(*plan, width, grad.options());
      const std::vector<float*> to = first_rows(result), from = first_rows(answers);
      at::Tensor grad_gates = at::empty_like(gates);
      const float *const read = grad.const_data_ptr<float>(), *const gate = gates.const_data_ptr<float>();
      float* const written = grad_gates.mutable_data_ptr<float>();
      at::parallel_for(0, grad.size(0), ops::cpu::grain(plan->selected * width),
                       [&](int64_t begin, int64_t end) { scatter(*plan, read, gate, from.data(), to.data(), width, begin, end, written); });
      result.push_back(grad_gates);
    }
    result.emplace_back();  // of the plan
    return result;
  }
};

bool one_pass(const torch::Tensor& x) { return !ops::plain_calls() && x.is_cpu() && x.scalar_type() == torch::kFloat; }

}  // namespace

std::shared_ptr<const ExpertRows> expert_rows(const MoeRouting& routing, int64_t experts) {
  auto plan = std::make_shared<ExpertRows>();
  plan->selected = routing.selected;
  std::vector<int64_t> counts(static_cast<size_t>(experts)), slot_of(static_cast<size_t>(experts), -1);
  for (size_t i = 0; i < routing.kept.size(); ++i) counts[static_cast<size_t>(routing.experts[i])] += routing.kept[i];
  for (size_t e = 0; e < counts.size(); ++e) {
    if (counts[e] == 0) continue;
    slot_of[e] = static_cast<int64_t>(plan->experts.size());
    plan->experts.push_back(static_cast<int64_t>(e));
    plan->choices.emplace_back().reserve(static_cast<size_t>(counts[e]));
  }
  plan->slots.resize(routing.kept.size(), -1);
  plan->rows.resize(routing.kept.size());
  for (size_t i = 0; i < routing.kept.size(); ++i) {
    if (!routing.kept[i]) continue;
    plan->slots[i] = slot_of[static_cast<size_t>(routing.experts[i])];
    std::vector<int64_t>& choices = plan->choices[static_cast<size_t>(plan->slots[i])];
    plan->rows[i] = static_cast<int64_t>(choices.size());
    choices.push_back(static_cast<int64_t>(i));
  }
  return plan;
}

std::vector<torch::Tensor> to_experts(const torch::Tensor& x, const std::shared_ptr<const ExpertRows>& plan) {
  return one_pass(x) ? ToExperts::apply(x, plan) : plain_to_experts(x, *plan);
}

torch::Tensor from_experts(const std::vector<torch::Tensor>& answers, const torch::Tensor& gates,
                           const std::shared_ptr<const ExpertRows>& plan) {
  if (!one_pass(answers.front()) || !one_pass(gates)) return plain_from_experts(answers, gates, *plan);
  std::vector<torch::Tensor> sources = answers;
  sources.push_back(gates);
  return FromExperts::apply(at::TensorList(sources), plan);
}

}  // namespace adatape
