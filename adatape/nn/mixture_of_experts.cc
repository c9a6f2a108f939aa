#include "adatape/nn/mixture_of_experts.h"

#include <algorithm>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/nn/padded.h"
#include "adatape/nn/segments.h"

namespace adatape {

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
  const int64_t tokens = x.size(0), k = routing.selected, experts = config.experts;
  if (tokens == 0) return x;
  // Where the rows of each expert begin, then which rows they are: source c of the copy is x as it is read by choice c.
  std::vector<int64_t> counts(static_cast<size_t>(experts)), next(static_cast<size_t>(experts));
  for (size_t i = 0; i < routing.kept.size(); ++i) counts[static_cast<size_t>(routing.experts[i])] += routing.kept[i];
  for (size_t e = 1; e < next.size(); ++e) next[e] = next[e - 1] + counts[e - 1];
  const int64_t served = next.back() + counts.back();
  if (served == 0) return torch::zeros_like(x);
  auto together = std::make_shared<Segments>(static_cast<size_t>(served));
  std::vector<std::shared_ptr<Segments>> back;
  std::vector<int64_t> dropped(static_cast<size_t>(k));
  for (int64_t c = 0; c < k; ++c) {
    back.push_back(std::make_shared<Segments>());
    for (int64_t token = 0; token < tokens; ++token) {
      const auto choice = static_cast<size_t>(token * k + c);
      if (!routing.kept[choice]) {
        add_segment(*back.back(), {1, dropped[static_cast<size_t>(c)]++, 1});
        continue;
      }
      const int64_t place = next[static_cast<size_t>(routing.experts[choice])]++;
      (*together)[static_cast<size_t>(place)] = {c, token, 1};
      add_segment(*back.back(), {0, place, 1});
    }
  }
  const torch::Tensor rows = join_segments(std::vector<torch::Tensor>(static_cast<size_t>(k), x), together);

  // One split and one unbind each: their gradients are joined once, where slices would clear and add the whole for each expert.
  const std::vector<torch::Tensor> of_expert = rows.split_with_sizes(counts), wide_weight = expand_weight.unbind(0),
                                   wide_bias = expand_bias.unbind(0), narrow_weight = contract_weight.unbind(0),
                                   narrow_bias = contract_bias.unbind(0);
  std::vector<torch::Tensor> answers;
  for (size_t e = 0; e < counts.size(); ++e) {
    if (counts[e] == 0) continue;
    const torch::Tensor wide = linear(of_expert[e], wide_weight[e], wide_bias[e]);
    answers.push_back(linear(apply_gelu(wide, gelu), narrow_weight[e], narrow_bias[e]));
  }
  const torch::Tensor answered = answers.size() == 1 ? answers.front() : torch::cat(answers);
  torch::Tensor sum;
  for (int64_t c = 0; c < k; ++c) {
    const int64_t missing = dropped[static_cast<size_t>(c)];
    if (missing == tokens) continue;
    std::vector<torch::Tensor> sources = {answered};
    if (missing > 0) sources.push_back(torch::zeros({missing, x.size(1)}, x.options().requires_grad(false)));
    const torch::Tensor part = join_segments(sources, back[static_cast<size_t>(c)]) * routing.chosen_gates.narrow(1, c, 1);
    sum = sum.defined() ? sum + part : part;
  }
  return sum;
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
    // One loss of a name, summed over blocks and steps: how many of them ran then makes no difference to a list of losses.
    const auto add = [&](const char* name, const torch::Tensor& values, double weight) {
      std::vector<AuxiliaryLoss>& losses = *context.auxiliary_losses;
      const torch::Tensor own = by_example ? values : values.expand({layout.batch()});
      const auto found = std::find_if(losses.begin(), losses.end(), [&](const AuxiliaryLoss& loss) { return loss.name == name; });
      if (found == losses.end()) {
        losses.push_back({name, own, weight, !by_example});
      } else {
        found->values = found->values + own;
      }
    };
    add("importance", routing.importance_loss, config.importance_weight);
    if (config.noise) add("load", routing.load_loss, config.load_weight);
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
