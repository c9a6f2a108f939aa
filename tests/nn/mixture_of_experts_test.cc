#include "adatape/nn/mixture_of_experts.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <torch/csrc/autograd/autograd.h>

#include "adatape/nn/expert_rows.h"
#include "adatape/ops/plain_calls.h"

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::layout_of;
using testing::random_tensor;
using torch::autograd::variable_list;

// Logits whose gates are these.
torch::Tensor logits_of(const std::vector<double>& gates, int64_t experts) {
  return torch::tensor(gates, torch::kFloat64).log().view({-1, experts});
}

TEST(MoeRouterTest, FirstChoicesAreServedBeforeSecondOnes) {
  // Three tokens, all with expert 0 first; capacity ceil(3 x 2 x 0.5 / 3) = 1.
  const torch::Tensor logits = logits_of({0.5, 0.3, 0.2, 0.6, 0.1, 0.3, 0.7, 0.2, 0.1}, 3);
  MoeRouteOptions options;
  options.capacity = 0.5;
  MoeRouting routing = route_tokens(logits, {0, 3}, {}, options);
  EXPECT_THAT(routing.experts, ElementsAre(0, 1, 0, 2, 0, 1));
  EXPECT_THAT(routing.positions, ElementsAre(0, 0, -1, 0, -1, -1));
  EXPECT_THAT(routing.kept, ElementsAre(1, 1, 0, 1, 0, 0));
  EXPECT_NEAR(routing.chosen_gates[1][1].item<double>(), 0.3, 1e-9);
  options.batch_priority = true;  // the last token's gate is the largest
  routing = route_tokens(logits, {0, 3}, {}, options);
  EXPECT_THAT(routing.kept, ElementsAre(0, 0, 0, 1, 1, 1));
  // Groups of their own: two tokens' expert 0 is free again for the third.
  options.batch_priority = false;
  routing = route_tokens(logits, {0, 2, 3}, {}, options);
  EXPECT_THAT(routing.kept, ElementsAre(1, 1, 0, 1, 1, 1));
  options.capacity = 0;
  EXPECT_THAT(route_tokens(logits, {0, 3}, {}, options).kept, ::testing::Each(1));
}

TEST(MoeRouterTest, SecondChoicesWaitForAllFirstOnes) {
  // Token 0 chooses expert 1 second, token 1 chooses it first: with room for one, token 1 has it.
  const torch::Tensor logits = logits_of({0.6, 0.4, 0.3, 0.7}, 2);
  MoeRouteOptions options;
  options.capacity = 0.5;
  EXPECT_THAT(route_tokens(logits, {0, 2}, {}, options).kept, ElementsAre(1, 0, 1, 0));
}

TEST(MoeRouterTest, CapacityIsRounded) {
  MoeRouteOptions options;
  options.capacity = 1.05;
  EXPECT_EQ(expert_capacity(24, 8, options), 7);
  options.capacity_multiple = 4;
  EXPECT_EQ(expert_capacity(24, 8, options), 8);
  options.capacity = 0;
  EXPECT_EQ(expert_capacity(24, 8, options), -1);
  options.selected = 3;
  EXPECT_THAT(error_of([&] { route_tokens(torch::zeros({1, 2}), {0, 1}, {}, options); }), HasSubstr("expected 1 .. 2 chosen experts"));
}

TEST(MoeRouterTest, EqualGatesGoToTheLowerExpert) {
  EXPECT_THAT(route_tokens(torch::zeros({1, 4}), {0, 1}, {}, {}).experts, ElementsAre(0, 1));
}

TEST(MoeRouterTest, LossesByHand) {
  // Importance: sums 1.1 and 0.9 of two experts: ((0.1)^2) / 1^2. A group without tokens has none.
  const MoeRouting routing = route_tokens(logits_of({0.5, 0.5, 0.6, 0.4}, 2), {0, 2, 2}, {}, {});
  EXPECT_NEAR(routing.importance_loss[0].item<double>(), 0.01, 1e-9);
  EXPECT_EQ(routing.importance_loss[1].item<double>(), 0);
  EXPECT_EQ(routing.load_loss.abs().sum().item<double>(), 0);
  // Load, one choice of two experts, no noise drawn: the winner's threshold is its own logit (chance 1/2), the other needs 0.3 more.
  MoeRouteOptions options;
  options.selected = 1;
  const torch::Tensor logits = torch::tensor({0.3, 0.0}, torch::kFloat64).view({1, 2});
  const double chance = 0.5 * std::erfc(0.3 / 0.5 / std::sqrt(2.0)), mean = (0.5 + chance) / 2, half = (0.5 - chance) / 2;
  EXPECT_NEAR(route_tokens(logits, {0, 1}, torch::zeros({1, 2}, torch::kFloat64), options).load_loss[0].item<double>(),
              half * half / mean / mean, 1e-9);
}

TEST(MixtureOfExpertsTest, EqualsEachTokenByItself) {
  torch::NoGradGuard no_grad;
  for (const double capacity : {0.0, 0.6}) {
    MoeConfig config;
    config.experts = 3;
    MixtureOfExperts layer(config, 4, 5, Gelu::kExact);
    testing::perturb(layer, 1, 0.7);
    const torch::Tensor x = random_tensor({7, 4}, 2);
    MoeRouteOptions options;
    options.capacity = capacity;
    const MoeRouting routing = route_tokens(layer.router->forward(x), {0, 7}, {}, options);
    torch::Tensor expected = torch::zeros_like(x);
    int64_t dropped = 0;
    for (int64_t token = 0; token < 7; ++token) {
      for (int64_t c = 0; c < 2; ++c) {
        const auto choice = static_cast<size_t>(2 * token + c);
        dropped += !routing.kept[choice];
        if (!routing.kept[choice]) continue;
        const int64_t e = routing.experts[choice];
        const torch::Tensor wide = at::gelu(layer.expand_weight[e].mv(x[token]) + layer.expand_bias[e]);
        expected[token] += routing.chosen_gates[token][c] * (layer.contract_weight[e].mv(wide) + layer.contract_bias[e]);
      }
    }
    EXPECT_EQ(dropped > 0, capacity > 0);
    EXPECT_LE(largest_difference(layer.forward_routed(x, routing), expected), 2e-6);
  }
}

TEST(MixtureOfExpertsTest, Gradients) {
  MoeConfig config;
  config.experts = 3;
  MixtureOfExperts layer(config, 4, 2, Gelu::kExact);
  testing::perturb(layer, 1, 0.7);
  layer.to(torch::kFloat64);
  MoeRouteOptions options;
  options.capacity = 0.6;
  const torch::Tensor noise = random_tensor({5, 3}, 3, torch::kFloat64);
  testing::expect_gradients(
      [&](const std::vector<torch::Tensor>& x) {
        const MoeRouting routing = route_tokens(layer.router->forward(x[0]), {0, 2, 5}, noise, options);
        return torch::cat({layer.forward_routed(x[0], routing).view({-1}), routing.importance_loss, routing.load_loss});
      },
      {random_tensor({5, 4}, 2)});
}

// Tokens enough for the fused networks against plain calls: answers, gradients, FLOPs, and that nobody's bits depend on batch mates.
TEST(MixtureOfExpertsTest, ManyTokensEqualPlainCalls) {
  MoeConfig config;
  config.experts = 3;
  MixtureOfExperts layer(config, 16, 24, Gelu::kTanh);
  testing::perturb(layer, 1, 0.7);
  const torch::Tensor x = random_tensor({400, 16}, 2), noise = random_tensor({400, 3}, 3);
  const auto results = [&](bool plain, MoeRouting* kept) {
    std::optional<ops::PlainCalls> guard;
    if (plain) guard.emplace();
    const torch::Tensor tokens = x.clone().requires_grad_();
    MoeRouteOptions options;
    options.capacity = 0.9;
    const MoeRouting routing = route_tokens(layer.router->forward(tokens), {0, 150, 400}, noise, options);
    if (kept != nullptr) *kept = routing;
    const torch::Tensor out = layer.forward_routed(tokens, routing);
    std::vector<torch::Tensor> inputs{tokens};
    for (const NamedParameter& parameter : layer.named_parameters()) inputs.push_back(parameter.tensor);
    variable_list all = torch::autograd::grad({out.square().sum() + routing.importance_loss.sum() + routing.load_loss.sum()}, inputs);
    all.push_back(out);
    return all;
  };
  MoeRouting routing;
  const variable_list fast = results(false, &routing), plain = results(true, nullptr);
  for (size_t i = 0; i < fast.size(); ++i)
    EXPECT_LE(largest_difference(fast[i], plain[i]), 1e-5 * std::max(1.0, plain[i].abs().max().item<double>())) << i;
  const torch::NoGradGuard no_grad;
  const int64_t before = matrix_product_flops(), served = std::count(routing.kept.begin(), routing.kept.end(), 1);
  EXPECT_TRUE(layer.forward_routed(x, routing).equal(fast.back()));
  EXPECT_EQ(matrix_product_flops() - before, served * layer.expert_cost_per_row().flops);
  const torch::Tensor logits = layer.router->forward(x);
  EXPECT_TRUE(route_tokens(logits.slice(0, 393), {0, 7}, {}, {}).gates.equal(route_tokens(logits, {0, 400}, {}, {}).gates.slice(0, 393)));
}

// One pass over the tokens against ATen's index_add: answers, gradients, and gradients of those, with and without full experts.
TEST(ExpertRowsTest, OnePassEqualsPlainCalls) {
  for (const double capacity : {0.0, 0.6}) {
    for (const int64_t width : {1, 19, 64}) {
      MoeRouteOptions options;
      options.capacity = capacity;
      const torch::Tensor logits = random_tensor({301, 5}, 1), x = random_tensor({301, width}, 2);
      const MoeRouting routing = route_tokens(logits, {0, 100, 301}, {}, options);
      const auto plan = expert_rows(routing, 5);
      const auto results = [&](bool plain) {
        std::optional<ops::PlainCalls> guard;
        if (plain) guard.emplace();
        const torch::Tensor tokens = x.clone().requires_grad_(), gates = routing.chosen_gates.detach().clone().requires_grad_();
        const torch::Tensor rows = to_experts(tokens, plan);
        const torch::Tensor factors = torch::arange(1, rows.size(0) + 1).remainder(7).unsqueeze(1);
        const torch::Tensor out = from_experts((rows * factors).sin(), gates, plan);
        const variable_list once = torch::autograd::grad({out.square().sum()}, {tokens, gates}, {}, true, true);
        const variable_list twice = torch::autograd::grad({once[0].square().sum() + once[1].square().sum()}, {tokens, gates});
        const variable_list bare =
            torch::autograd::grad({from_experts(to_experts(tokens, plan), gates, plan).square().sum()}, {tokens, gates});
        return variable_list{out, once[0], once[1], twice[0], twice[1], bare[0], bare[1]};
      };
      const variable_list fast = results(false), plain = results(true);
      for (size_t i = 0; i < fast.size(); ++i)
        EXPECT_LE(largest_difference(fast[i], plain[i]), 2e-6 * std::max(1.0, plain[i].abs().max().item<double>())) << i << " " << width;
    }
  }
}

TEST(MixtureOfExpertsTest, NothingAndNobodyServed) {
  MoeConfig config;
  config.experts = 3;
  MixtureOfExperts layer(config, 4, 5, Gelu::kExact);
  EXPECT_EQ(layer.forward(torch::zeros({0, 4}), *layout_of({0, 0}), {}, 0, "").sizes(), (at::IntArrayRef{0, 4}));
  MoeRouting none = route_tokens(torch::zeros({2, 3}), {0, 2}, {}, {});
  std::fill(none.kept.begin(), none.kept.end(), 0);
  EXPECT_TRUE(layer.forward_routed(torch::ones({2, 4}), none).equal(torch::zeros({2, 4})));
}

// Two experts, room for ceil(tokens x 1 x 0.5 / 2) choices; gates go by the sign of feature 0.
TEST(MixtureOfExpertsTest, WhatTrainingDropsIsCounted) {
  MoeConfig config;
  config.experts = 2;
  config.top_k = 1;
  config.capacity = 0.5;
  config.noise = false;
  MixtureOfExperts layer(config, 2, 3, Gelu::kTanh);
  {
    const torch::NoGradGuard no_grad;
    layer.router->weight[0][0] = 1;
    layer.router->weight[1][0] = -1;
  }
  // Four tokens for expert 0, which serves one; then one each, both served (room for one); then an example without tokens.
  const torch::Tensor x = torch::tensor({1., 0., 1., 0., 1., 0., 1., 0., 1., 0., -1., 0.}, torch::kFloat).view({6, 2});
  const auto losses_of = [&](bool training, int64_t times) {
    std::vector<AuxiliaryLoss> losses;
    ForwardContext context;
    context.training = training;
    context.auxiliary_losses = &losses;
    for (int64_t block = 0; block < times; ++block) layer.forward(x, *layout_of({4, 2, 0}), context, block, "");
    std::map<std::string, std::vector<float>> found;
    for (const AuxiliaryLoss& loss : losses) {
      const torch::Tensor values = loss.values.detach().contiguous();
      found[loss.name] = {values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel()};
      EXPECT_EQ(loss.weight == 0, loss.name != "importance");
    }
    return found;
  };
  auto losses = losses_of(true, 1);
  EXPECT_THAT(losses.at("expert_choices"), ElementsAre(4, 2, 0));
  EXPECT_THAT(losses.at("dropped_choices"), ElementsAre(3, 0, 0));
  EXPECT_THAT(losses.at("expert_tokens"), ElementsAre(4, 2, 0));
  EXPECT_THAT(losses.at("unserved_tokens"), ElementsAre(3, 0, 0));
  EXPECT_THAT(losses_of(true, 2).at("dropped_choices"), ElementsAre(6, 0, 0));
  EXPECT_EQ(losses_of(false, 1).size(), 1u);  // importance
  // With two choices each, a token may lose one and keep the other.
  layer.config.top_k = 2;
  layer.config.capacity = 0.75;  // room for three, two and none
  losses = losses_of(true, 1);
  EXPECT_THAT(losses.at("expert_choices"), ElementsAre(8, 4, 0));
  EXPECT_THAT(losses.at("dropped_choices"), ElementsAre(2, 0, 0));
  EXPECT_THAT(losses.at("unserved_tokens"), ElementsAre(1, 0, 0));
}

TEST(MixtureOfExpertsTest, LossesWorkAndLoadsAreReported) {
  MoeConfig config;
  config.experts = 3;
  config.evaluation_capacity = 0.6;
  MixtureOfExperts layer(config, 4, 5, Gelu::kTanh);
  testing::perturb(layer, 1, 0.7);
  std::vector<WorkItem> work;
  std::vector<AuxiliaryLoss> losses;
  std::vector<ExpertLoad> loads;
  ForwardContext context;
  context.work = &work;
  context.auxiliary_losses = &losses;
  context.expert_loads = &loads;
  layer.forward(random_tensor({7, 4}, 2), *layout_of({3, 4}), context, 0, "block 1");
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_EQ(losses[0].values.sizes(), (at::IntArrayRef{2}));
  EXPECT_EQ(losses[0].weight, 0.005);
  ASSERT_EQ(work.size(), 2u);
  EXPECT_THAT(work[0].rows, ElementsAre(3, 4));
  ASSERT_EQ(loads.size(), 1u);
  EXPECT_EQ(loads[0].choices, 14);
  int64_t served = 0;
  for (const int64_t count : loads[0].served) served += count;
  EXPECT_EQ(served, work[1].rows[0] + work[1].rows[1]);
  EXPECT_LT(served, 14);
}

}  // namespace
}  // namespace adatape
