// The golden case of a mixture of experts: entries with one and two choices, noise, priority, rounded capacity, and without drops.
#include <nlohmann/json.hpp>

#include "adatape/convert/golden_case.h"
#include "adatape/core/check.h"
#include "adatape/nn/mixture_of_experts.h"

namespace adatape {
namespace {

double number_or(const nlohmann::json& options, const char* key, double otherwise) {
  return options.at(key).is_null() ? otherwise : options.at(key).get<double>();
}

}  // namespace

NamedTensors run_moe_case(const nlohmann::json& config, const NamedTensors& weights, const NamedTensors& inputs) {
  NamedTensors result;
  for (const auto& [entry, given] : config.items()) {
    const std::string prefix = entry + "/";
    const int64_t groups = given.at("groups"), length = given.at("tokens_per_group"), dim = given.at("D");
    MoeConfig moe;
    moe.experts = given.at("experts");
    MoeRouteOptions options;
    options.selected = given.at("selected");
    options.capacity = number_or(given, "capacity_factor", 0);
    options.capacity_multiple = static_cast<int64_t>(number_or(given, "capacity_multiple_of", 1));
    options.batch_priority = given.at("batch_priority");
    MixtureOfExperts layer(moe, dim, given.at("ffn_width"), Gelu::kTanh);
    {
      const at::NoGradGuard no_grad;
      layer.router->weight.copy_(tensor_of(weights, prefix + "router").t());
      layer.expand_weight.copy_(tensor_of(weights, prefix + "w1").transpose(1, 2));
      layer.expand_bias.copy_(tensor_of(weights, prefix + "b1"));
      layer.contract_weight.copy_(tensor_of(weights, prefix + "w2").transpose(1, 2));
      layer.contract_bias.copy_(tensor_of(weights, prefix + "b2"));
    }
    layer.to(inputs.begin()->second.device());
    const at::Tensor tokens = tensor_of(inputs, prefix + "tokens").clone().requires_grad_(true);
    const at::Tensor x = tokens.view({groups * length, dim});
    std::vector<int64_t> offsets;
    for (int64_t g = 0; g <= groups; ++g) offsets.push_back(g * length);
    const bool noisy = given.at("noise");
    const at::Tensor noise = noisy ? tensor_of(inputs, prefix + "noise").view({groups * length, moe.experts}) : at::Tensor();
    const MoeRouting routing = route_tokens(layer.router->forward(x), offsets, noise, options);
    const at::Tensor output = layer.forward_routed(x, routing).view({groups, length, dim});

    const std::vector<int64_t> choices = {groups, length, options.selected};
    const at::Tensor experts = at::tensor(routing.experts, at::kLong).view(choices);
    const at::Tensor kept = at::tensor(routing.kept, at::kByte).view(choices);
    result[prefix + "experts"] = experts.to(at::kInt);
    result[prefix + "position_in_expert"] = at::tensor(routing.positions, at::kLong).view(choices).to(at::kInt);
    result[prefix + "kept"] = kept;
    result[prefix + "gates"] = routing.gates.detach().view({groups, length, moe.experts});
    result[prefix + "combine_weights"] =
        at::zeros({groups, length, moe.experts})
            .scatter_add(2, experts, routing.chosen_gates.detach().to(at::kCPU).view(choices) * kept.to(at::kFloat));
    result[prefix + "importance_loss"] = routing.importance_loss.detach();
    result[prefix + "load_loss"] = routing.load_loss.detach();
    result[prefix + "output"] = output.detach();
    if (inputs.count(prefix + "cotangent") == 0) continue;
    ((output * tensor_of(inputs, prefix + "cotangent")).sum() +
     given.at("importance_weight").get<double>() * routing.importance_loss.mean() +
     given.at("load_weight").get<double>() * routing.load_loss.mean())
        .backward();
    const std::string names = "grad/" + prefix;
    result[names + "tokens"] = tokens.grad();
    result[names + "router"] = layer.router->weight.grad().t().contiguous();
    result[names + "w1"] = layer.expand_weight.grad().transpose(1, 2).contiguous();
    result[names + "b1"] = layer.expand_bias.grad();
    result[names + "w2"] = layer.contract_weight.grad().transpose(1, 2).contiguous();
    result[names + "b2"] = layer.contract_bias.grad();
  }
  return result;
}

}  // namespace adatape
