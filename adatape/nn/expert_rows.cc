#include "adatape/nn/expert_rows.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <numeric>

#include "adatape/nn/pack_layout.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t tokens_of(const ExpertRows& plan) { return static_cast<int64_t>(plan.rows.size()) / plan.selected; }

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

torch::Tensor token_index(const ExpertRows& plan, const torch::Tensor& like) { return index_tensor(tokens_of_rows(plan), like.device()); }

// The gate of each row [rows, 1].
torch::Tensor gates_of_rows(const torch::Tensor& gates, const ExpertRows& plan) {
  return gates.reshape({-1}).index_select(0, index_tensor(plan.choices, gates.device())).unsqueeze(1);
}

torch::Tensor plain_to_experts(const torch::Tensor& x, const ExpertRows& plan) { return x.index_select(0, token_index(plan, x)); }

torch::Tensor plain_sums(const torch::Tensor& rows, const ExpertRows& plan) {
  return torch::zeros({tokens_of(plan), rows.size(1)}, rows.options().requires_grad(false)).index_add(0, token_index(plan, rows), rows);
}

ADATAPE_ALWAYS_INLINE void scale_row(const float* from, float gate, int64_t width, float* to) {
#pragma omp simd
  for (int64_t f = 0; f < width; ++f) to[f] = gate * from[f];
}
ADATAPE_ALWAYS_INLINE void add_row(const float* from, float gate, int64_t width, float* to) {
#pragma omp simd
  for (int64_t f = 0; f < width; ++f) to[f] += gate * from[f];
}

// One pass over tokens begin .. end. gates null: all 1.

ADATAPE_CPU_CLONES void gather(const ExpertRows& plan, const float* gates, const float* rows, int64_t width, int64_t begin, int64_t end,
                               float* out) {
  for (int64_t token = begin; token < end; ++token) {
    float* const to = out + token * width;
    bool first = true;
    for (int64_t choice = token * plan.selected; choice < (token + 1) * plan.selected; ++choice) {
      const int64_t row = plan.rows[static_cast<size_t>(choice)];
      if (row < 0) continue;
      const float* const from = rows + row * width;
      const float gate = gates == nullptr ? 1.0f : gates[choice];
      first ? scale_row(from, gate, width, to) : add_row(from, gate, width, to);
      first = false;
    }
    if (first) std::memset(to, 0, static_cast<size_t>(width) * sizeof(float));
  }
}

// grad [T, width] times the gates to the rows; its product with the answers is the gates' gradient.
ADATAPE_CPU_CLONES void scatter(const ExpertRows& plan, const float* grad, const float* gates, const float* answers, int64_t width,
                                int64_t begin, int64_t end, float* grad_answers, float* grad_gates) {
  for (int64_t token = begin; token < end; ++token) {
    const float* const from = grad + token * width;
    for (int64_t choice = token * plan.selected; choice < (token + 1) * plan.selected; ++choice) {
      float product = 0;
      if (const int64_t row = plan.rows[static_cast<size_t>(choice)]; row >= 0) {
        const float* const answer = answers + row * width;
        float* const to = grad_answers + row * width;
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

torch::Tensor gathered(const ExpertRows& plan, const torch::Tensor& rows, const float* gates) {
  const int64_t width = rows.size(1), tokens = tokens_of(plan);
  torch::Tensor out = at::empty({tokens, width}, rows.options());
  const float* const from = rows.const_data_ptr<float>();
  float* const to = out.mutable_data_ptr<float>();
  at::parallel_for(0, tokens, ops::cpu::grain(plan.selected * width),
                   [&](int64_t begin, int64_t end) { gather(plan, gates, from, width, begin, end, to); });
  return out;
}

struct ToExperts : torch::autograd::Function<ToExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::shared_ptr<const ExpertRows>& plan) {
    const int64_t width = x.size(1);
    at::Tensor rows = at::empty({static_cast<int64_t>(plan->choices.size()), width}, x.options());
    const float* const from = x.const_data_ptr<float>();
    float* const to = rows.mutable_data_ptr<float>();
    at::parallel_for(0, x.size(0), ops::cpu::grain(plan->selected * width), [&](int64_t begin, int64_t end) {
      for (int64_t choice = begin * plan->selected; choice < end * plan->selected; ++choice) {
        const int64_t row = plan->rows[static_cast<size_t>(choice)];
        if (row >= 0) std::memcpy(to + row * width, from + choice / plan->selected * width, static_cast<size_t>(width) * sizeof(float));
      }
    });
    keep(context, plan);
    return rows;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const std::shared_ptr<const ExpertRows> plan = kept(context);
    if (at::GradMode::is_enabled()) return {plain_sums(grads[0], *plan), at::Tensor()};
    return {gathered(*plan, grads[0].contiguous(), nullptr), at::Tensor()};
  }
};

struct FromExperts : torch::autograd::Function<FromExperts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& answers, const at::Tensor& gates,
                            const std::shared_ptr<const ExpertRows>& plan) {
    context->save_for_backward({answers, gates});
    keep(context, plan);
    return gathered(*plan, answers, gates.const_data_ptr<float>());
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const std::shared_ptr<const ExpertRows> plan = kept(context);
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &answers = saved[0], &gates = saved[1];
    if (at::GradMode::is_enabled()) {
      const at::Tensor rows = plain_to_experts(grads[0], *plan);
      const at::Tensor of_gates = torch::zeros({gates.numel()}, gates.options().requires_grad(false))
                                      .index_add(0, index_tensor(plan->choices, gates.device()), (rows * answers).sum(1));
      return {rows * gates_of_rows(gates, *plan), of_gates.view(gates.sizes()), at::Tensor()};
    }
    const at::Tensor grad = grads[0].contiguous();
    const int64_t width = grad.size(1);
    at::Tensor of_answers = at::empty_like(answers), of_gates = at::empty_like(gates);
    const float *const from = grad.const_data_ptr<float>(), *const gate = gates.const_data_ptr<float>(),
                       *const answer = answers.const_data_ptr<float>();
    float *const to = of_answers.mutable_data_ptr<float>(), *const to_gates = of_gates.mutable_data_ptr<float>();
    at::parallel_for(0, grad.size(0), ops::cpu::grain(plan->selected * width),
                     [&](int64_t begin, int64_t end) { scatter(*plan, from, gate, answer, width, begin, end, to, to_gates); });
    return {of_answers, of_gates, at::Tensor()};
  }
};

bool one_pass(const torch::Tensor& x) { return !ops::plain_calls() && x.is_cpu() && x.scalar_type() == torch::kFloat; }

}  // namespace

std::shared_ptr<const ExpertRows> expert_rows(const MoeRouting& routing, int64_t experts) {
  auto plan = std::make_shared<ExpertRows>();
  plan->selected = routing.selected;
  plan->offsets.resize(static_cast<size_t>(experts) + 1);
  for (size_t i = 0; i < routing.kept.size(); ++i) plan->offsets[static_cast<size_t>(routing.experts[i]) + 1] += routing.kept[i];
  std::partial_sum(plan->offsets.begin(), plan->offsets.end(), plan->offsets.begin());
  std::vector<int64_t> next = plan->offsets;
  plan->choices.resize(static_cast<size_t>(plan->offsets.back()));
  plan->rows.resize(routing.kept.size(), -1);
  for (size_t i = 0; i < routing.kept.size(); ++i) {
    if (!routing.kept[i]) continue;
    plan->rows[i] = next[static_cast<size_t>(routing.experts[i])]++;
    plan->choices[static_cast<size_t>(plan->rows[i])] = static_cast<int64_t>(i);
  }
  return plan;
}

std::vector<int64_t> tokens_of_rows(const ExpertRows& plan) {
  std::vector<int64_t> tokens = plan.choices;
  for (int64_t& token : tokens) token /= plan.selected;
  return tokens;
}

torch::Tensor to_experts(const torch::Tensor& x, const std::shared_ptr<const ExpertRows>& plan) {
  return one_pass(x) ? ToExperts::apply(x.contiguous(), plan) : plain_to_experts(x, *plan);
}

torch::Tensor from_experts(const torch::Tensor& answers, const torch::Tensor& gates, const std::shared_ptr<const ExpertRows>& plan) {
  if (!one_pass(answers) || !one_pass(gates)) return plain_sums(answers * gates_of_rows(gates, *plan), *plan);
  return FromExperts::apply(answers.contiguous(), gates.contiguous(), plan);
}

}  // namespace adatape
