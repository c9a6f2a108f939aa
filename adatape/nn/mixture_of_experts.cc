#include "adatape/nn/mixture_of_experts.h"

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/nn/expert_rows.h"
#include "adatape/nn/padded.h"
#include "adatape/ops/dense_mlp/dense_mlp.h"

namespace adatape {
namespace {

// Adds to the losses one of this name, or to the one that is there: how many blocks and steps ran makes no difference to their list.
void add_loss(std::vector<AuxiliaryLoss>& losses, const AuxiliaryLoss& loss) {
  const auto found = std::find_if(losses.begin(), losses.end(), [&](const AuxiliaryLoss& other) { return other.name == loss.name; });
  if (found == losses.end()) {
    losses.push_back(loss);
  } else {
    found->values = found->values + loss.values;
  }
}

// What each example's tokens asked for and did not get, as losses of weight 0: one copy to the device for all.
void add_counts(std::vector<AuxiliaryLoss>& losses, const MoeRouting& routing, const PackLayout& layout, at::Device device) {
  const auto batch = static_cast<size_t>(layout.batch());
  std::vector<float> counts(4 * batch);
  for (size_t b = 0; b < batch; ++b) {
    int64_t dropped = 0, unserved = 0;
    for (int64_t token = layout.offsets()[b]; token < layout.offsets()[b + 1]; ++token) {
      const auto first = routing.kept.begin() + token * routing.selected;
      const int64_t kept = std::accumulate(first, first + routing.selected, int64_t{0});
      dropped += routing.selected - kept;
      unserved += kept == 0;
    }
    const int64_t tokens = layout.lengths()[b];
    counts[b] = static_cast<float>(tokens * routing.selected);
    counts[batch + b] = static_cast<float>(dropped);
    counts[2 * batch + b] = static_cast<float>(tokens);
    counts[3 * batch + b] = static_cast<float>(unserved);
  }
  const torch::Tensor rows = torch::tensor(counts).view({4, layout.batch()}).to(device);
  int64_t row = 0;
  for (const char* name : {"expert_choices", "dropped_choices", "expert_tokens", "unserved_tokens"})
    add_loss(losses, {name, rows[row++], 0});
}

}  // namespace

void MoeConfig::fields(FieldVisitor& visit) {
  visit.integer("experts", experts, {0, 65536}, "experts of a mixture-of-experts layer; 0 = dense feed-forward networks");
  visit.integer("top_k", top_k, {1, 65536}, "experts that serve a token");
  visit.integer("every", every, {1, 10000}, "every how many blocks a block has experts, the last of each run; a shared block always has");
  visit.integer_or("ffn_width", ffn_width, "ffn_width", {1, 1000000}, "inner width of an expert");
  visit.real("capacity", capacity, {0, 1e6},
             "while training an expert serves ceil(tokens x top_k x capacity / experts) choices of a group; what is past it keeps only its "
             "residual; 0 = nothing is dropped");
  visit.real("evaluation_capacity", evaluation_capacity, {0, 1e6}, "the same in evaluation; 0 = nothing is dropped");
  visit.integer("capacity_multiple", capacity_multiple, {1, 65536}, "the capacity is rounded up to a multiple of this");
  visit.boolean("batch_priority", batch_priority, "tokens with the largest gates are served first, not those in front");
  visit.boolean("noise", noise, "noise N(0, 1 / experts^2) on the router's logits while training");
  visit.choice("group", group, {"example", "batch"},
               "the tokens among which capacity is shared and losses are taken; with batch an example's result depends on its batch");
  visit.real("importance_weight", importance_weight, {0, 1e6}, "weight of the importance loss");
  visit.real("load_weight", load_weight, {0, 1e6}, "weight of the load loss (with noise)");
}

MixtureOfExperts::MixtureOfExperts(const MoeConfig& config_, int64_t dim, int64_t width, Gelu gelu_) : config(config_), gelu(gelu_) {
  router = register_module("router", std::make_shared<Linear>(dim, config.experts, /*with_bias=*/false));
  expand_weight = register_parameter("expand_weight", torch::zeros({config.experts, width, dim}));
  expand_bias = register_parameter("expand_bias", torch::zeros({config.experts, width}));
  contract_weight = register_parameter("contract_weight", torch::zeros({config.experts, dim, width}));
  contract_bias = register_parameter("contract_bias", torch::zeros({config.experts, dim}));
}

void MixtureOfExperts::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const int64_t dim = expand_weight.size(2), width = expand_weight.size(1);
  lecun_normal(router->weight, dim, generator);
  Linear expand(dim, width), contract(width, dim);  // each expert starts as a dense network would
  for (int64_t e = 0; e < config.experts; ++e) {
    xavier_uniform(expand, generator);
    xavier_uniform(contract, generator);
    expand_weight[e].copy_(expand.weight);
    contract_weight[e].copy_(contract.weight);
  }
  normal(expand_bias, 1e-6, generator);
  normal(contract_bias, 1e-6, generator);
}

torch::Tensor MixtureOfExperts::forward_routed(const torch::Tensor& x, const MoeRouting& routing) const {
  const std::shared_ptr<const ExpertRows> plan = expert_rows(routing, config.experts);
  if (plan->choices.empty()) return torch::zeros_like(x);
  const ops::MlpWeights weights{expand_weight, expand_bias, contract_weight, contract_bias};
  // Laying out an expert's weights pays from so many rows on.
  constexpr int64_t kFewestRows = 48;
  const auto choices = static_cast<int64_t>(plan->choices.size());
  if (gelu != Gelu::kTanh || choices < kFewestRows * config.experts || !ops::has_dense_mlp(x, weights))
    return from_experts(one_by_one(to_experts(x, plan), plan->offsets), routing.chosen_gates, plan);
  count_products(choices, expert_cost_per_row());
  const auto activation = ops::MlpActivation::kTanhGelu;
  const torch::Tensor answers = at::GradMode::is_enabled()
                                    ? ops::dense_mlp(to_experts(x, plan), plan->offsets, weights, activation)
                                    : ops::dense_mlp_of_rows(x, tokens_of_rows(*plan), plan->offsets, weights, activation);
  return from_experts(answers, routing.chosen_gates, plan);
}

torch::Tensor MixtureOfExperts::one_by_one(const torch::Tensor& rows, const std::vector<int64_t>& offsets) const {
  // One unbind and one split each: gradients are joined once, where slices would clear and add the whole for each expert.
  const std::vector<torch::Tensor> wide_weight = expand_weight.unbind(0), wide_bias = expand_bias.unbind(0),
                                   narrow_weight = contract_weight.unbind(0), narrow_bias = contract_bias.unbind(0);
  std::vector<int64_t> sizes;
  for (size_t e = 0; e + 1 < offsets.size(); ++e) sizes.push_back(offsets[e + 1] - offsets[e]);
  std::vector<torch::Tensor> parts = rows.split_with_sizes(sizes);
  for (size_t e = 0; e < parts.size(); ++e) {
    if (sizes[e] > 0) parts[e] = linear(apply_gelu(linear(parts[e], wide_weight[e], wide_bias[e]), gelu), narrow_weight[e], narrow_bias[e]);
  }
  return torch::cat(parts);
}

torch::Tensor MixtureOfExperts::forward(const torch::Tensor& x, const PackLayout& layout, const ForwardContext& context, int64_t index,
                                        const std::string& part) const {
  MoeRouteOptions options;
  options.selected = config.top_k;
  options.capacity = context.training ? config.capacity : config.evaluation_capacity;
  options.capacity_multiple = config.capacity_multiple;
  options.batch_priority = config.batch_priority;
  torch::Tensor noise;
  if (context.training && config.noise && layout.total() > 0) {
    const torch::Tensor drawn = counter_normal(context.seed, context.step, site(Site::kRouterNoise, static_cast<uint32_t>(index)),
                                               context.examples, layout.longest() * config.experts);
    noise = without_padding(drawn.view({-1, config.experts}), layout).to(x.options().requires_grad(false));
  }
  const bool by_example = config.group == "example";
  const MoeRouting routing =
      route_tokens(router->forward(x), by_example ? layout.offsets() : std::vector<int64_t>{0, layout.total()}, noise, options);
  if (context.auxiliary_losses != nullptr) {
    const auto add = [&](const char* name, const torch::Tensor& values, double weight) {
      add_loss(*context.auxiliary_losses, {name, by_example ? values : values.expand({layout.batch()}), weight, !by_example});
    };
    add("importance", routing.importance_loss, config.importance_weight);
    if (config.noise) add("load", routing.load_loss, config.load_weight);
    if (context.training) add_counts(*context.auxiliary_losses, routing, layout, x.device());
  }
  if (context.work != nullptr) {
    std::vector<int64_t> served(layout.lengths().size());
    std::vector<int64_t> of_expert(static_cast<size_t>(config.experts));
    for (size_t b = 0; b < served.size(); ++b) {
      for (auto i = static_cast<size_t>(layout.offsets()[b] * config.top_k);
           i < static_cast<size_t>(layout.offsets()[b + 1] * config.top_k); ++i) {
        served[b] += routing.kept[i];
        of_expert[static_cast<size_t>(routing.experts[i])] += routing.kept[i];
      }
    }
    context.count(part + " / router", layout.lengths(), router->cost_per_row());
    context.count(part + " / experts", served, expert_cost_per_row());
    if (context.expert_loads != nullptr) context.expert_loads->push_back({part, of_expert, layout.total() * config.top_k});
  }
  return forward_routed(x, routing);
}

}  // namespace adatape
