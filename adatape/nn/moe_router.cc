#include "adatape/nn/moe_router.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/nn/pack_layout.h"
#include "adatape/ops/activation.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

// Squared coefficient of variation over the experts of sums [groups, experts]; 0 for a group without tokens.
torch::Tensor squared_variation(const torch::Tensor& sums) {
  const torch::Tensor mean = sums.mean(1, /*keepdim=*/true);
  return (sums - mean).square().mean(1) / mean.squeeze(1).square().clamp_min(1e-20);
}

// ATen's softmax takes short rows one by one, by calls; this takes a row at a time in registers.
struct RowSoftmaxFunction : torch::autograd::Function<RowSoftmaxFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x) {
    at::Tensor out = at::empty_like(x);
    const float* const from = x.const_data_ptr<float>();
    float* const to = out.mutable_data_ptr<float>();
    const int64_t width = x.size(1);
    at::parallel_for(0, x.size(0), ops::cpu::grain(8 * width), [&](int64_t begin, int64_t end) {
      ops::cpu::softmax_rows(from + begin * width, end - begin, width, to + begin * width);
    });
    context->save_for_backward({out});
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, const torch::autograd::variable_list& grads) {
    const at::Tensor softmax = context->get_saved_variables()[0];
    if (at::GradMode::is_enabled()) return {softmax * (grads[0] - (softmax * grads[0]).sum(1, /*keepdim=*/true))};
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor out = at::empty_like(softmax);
    const float *const answer = softmax.const_data_ptr<float>(), *const given = grad.const_data_ptr<float>();
    float* const to = out.mutable_data_ptr<float>();
    const int64_t width = softmax.size(1);
    at::parallel_for(0, softmax.size(0), ops::cpu::grain(4 * width), [&](int64_t begin, int64_t end) {
      ops::cpu::softmax_rows_gradient(answer + begin * width, given + begin * width, end - begin, width, to + begin * width);
    });
    return {out};
  }
};

torch::Tensor softmax_of_rows(const torch::Tensor& logits) {
  if (ops::plain_calls() || !logits.is_cpu() || logits.scalar_type() != torch::kFloat) return logits.softmax(1);
  return RowSoftmaxFunction::apply(logits.contiguous());
}

torch::Tensor sum_groups(const torch::Tensor& values, const std::vector<int64_t>& offsets) {
  std::vector<int64_t> group(static_cast<size_t>(values.size(0)));
  for (size_t g = 0; g + 1 < offsets.size(); ++g) std::fill(group.begin() + offsets[g], group.begin() + offsets[g + 1], g);
  return torch::zeros({static_cast<int64_t>(offsets.size()) - 1, values.size(1)}, values.options())
      .index_add(0, index_tensor(group, values.device()), values);
}

// The k largest gates of each row, largest first; equal ones in order.
std::vector<int64_t> largest(const torch::Tensor& gates, int64_t k) {
  const torch::Tensor host = gates.detach().to(torch::kCPU, torch::kDouble).contiguous();
  const int64_t count = host.size(1);
  std::vector<int64_t> chosen(static_cast<size_t>(host.size(0) * k));
  at::parallel_for(0, host.size(0), ops::cpu::grain(4 * k * count), [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> taken(static_cast<size_t>(count));
    for (int64_t row = begin; row < end; ++row) {
      const double* values = host.const_data_ptr<double>() + row * count;
      std::fill(taken.begin(), taken.end(), 0);
      for (int64_t c = 0; c < k; ++c) {
        int64_t best = -1;
        for (int64_t e = 0; e < count; ++e) {
          if (!taken[static_cast<size_t>(e)] && (best < 0 || values[e] > values[best])) best = e;
        }
        taken[static_cast<size_t>(best)] = 1;
        chosen[static_cast<size_t>(row * k + c)] = best;
      }
    }
  });
  return chosen;
}

}  // namespace

int64_t expert_capacity(int64_t tokens, int64_t experts, const MoeRouteOptions& options) {
  if (options.capacity <= 0) return -1;
  const double exact = static_cast<double>(tokens * options.selected) * options.capacity / static_cast<double>(experts);
  const auto least = static_cast<int64_t>(std::ceil(exact)), multiple = options.capacity_multiple;
  return (least + multiple - 1) / multiple * multiple;
}

MoeRouting route_tokens(const torch::Tensor& logits, const std::vector<int64_t>& group_offsets, const torch::Tensor& noise,
                        const MoeRouteOptions& options) {
  const int64_t experts = logits.size(1), k = options.selected, tokens = logits.size(0);
  ADATAPE_CHECK(k >= 1 && k <= experts, "mixture of experts", "expected 1 .. ", experts, " chosen experts a token, got ", k);
  const double deviation = 1.0 / static_cast<double>(experts);
  const torch::Tensor noisy = noise.defined() ? logits + noise * deviation : logits;
  MoeRouting routing;
  routing.selected = k;
  routing.gates = softmax_of_rows(noisy);
  routing.experts = largest(routing.gates, k);
  const torch::Tensor chosen = index_tensor(routing.experts, logits.device()).view({tokens, k});
  routing.chosen_gates = routing.gates.gather(1, chosen);
  routing.importance_loss = squared_variation(sum_groups(noise.defined() ? softmax_of_rows(logits) : routing.gates, group_offsets));
  if (noise.defined()) {
    const torch::Tensor threshold = noisy.gather(1, chosen.narrow(1, k - 1, 1));  // what has to be reached to be chosen
    const torch::Tensor chance = 0.5 * at::erfc((threshold - logits) / (deviation * std::sqrt(2.0)));
    routing.load_loss = squared_variation(sum_groups(chance, group_offsets));
  } else {
    routing.load_loss = torch::zeros_like(routing.importance_loss);
  }

  routing.positions.resize(routing.experts.size());
  routing.kept.resize(routing.experts.size());
  torch::Tensor first_gates;
  if (options.batch_priority) first_gates = routing.chosen_gates.detach().select(1, 0).to(torch::kCPU, torch::kDouble).contiguous();
  std::vector<int64_t> order, waiting(static_cast<size_t>(experts));
  for (size_t g = 0; g + 1 < group_offsets.size(); ++g) {
    order.resize(static_cast<size_t>(group_offsets[g + 1] - group_offsets[g]));
    std::iota(order.begin(), order.end(), group_offsets[g]);
    if (options.batch_priority) {
      const double* gate = first_gates.const_data_ptr<double>();
      std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return gate[a] > gate[b]; });
    }
    const int64_t capacity = expert_capacity(static_cast<int64_t>(order.size()), experts, options);
    std::fill(waiting.begin(), waiting.end(), 0);
    for (int64_t c = 0; c < k; ++c) {
      for (const int64_t token : order) {
        const auto place = static_cast<size_t>(token * k + c);
        routing.positions[place] = waiting[static_cast<size_t>(routing.experts[place])]++;
        routing.kept[place] = capacity < 0 || routing.positions[place] < capacity;
        if (!routing.kept[place]) routing.positions[place] = -1;
      }
    }
  }
  return routing;
}

}  // namespace adatape
