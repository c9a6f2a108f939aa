#include "adatape/nn/halting.h"

#include <cmath>

#include "nn_cases.h"

namespace adatape {
namespace {

TEST(HaltingTest, OneStepByHand) {
  const torch::Tensor p = torch::tensor({0.3, 0.3, 0.99, 0.5, 0.985}, torch::kFloat64),
                      h = torch::tensor({0.2, 0.8, 0.0, 0.495, 0.0}, torch::kFloat64);
  const ActStep step = act_step(p, h, 0.01, false);
  EXPECT_TRUE(step.halts.equal(torch::tensor({false, true, false, true, false})));  // h + p > 0.99; 0.99 itself goes on
  EXPECT_TRUE(at::allclose(step.weight, torch::tensor({0.3, 0.2, 0.99, 0.505, 0.985}, torch::kFloat64)));
}

TEST(HaltingTest, TheLastStepTakesTheRemainder) {
  const torch::Tensor p = torch::tensor({0.1f, 0.9f}), h = torch::tensor({0.2f, 0.5f});
  const ActStep step = act_step(p, h, 0.01, true);
  EXPECT_TRUE(step.halts.all().item<bool>());
  EXPECT_TRUE(at::allclose(step.weight, torch::tensor({0.8f, 0.5f})));
}

TEST(HaltingTest, WeightsSumToOne) {
  torch::Tensor h = torch::zeros({50}), sum = torch::zeros({50}), running = torch::ones({50}, torch::kBool);
  for (int t = 0; t < 8; ++t) {
    const torch::Tensor p = torch::sigmoid(testing::random_tensor({50}, static_cast<uint64_t>(t)) - 1);
    const ActStep step = act_step(p, h, 0.01, t == 7);
    sum = sum + torch::where(running, step.weight, torch::zeros_like(sum));
    running = running.logical_and(step.halts.logical_not());
    h = h + p;
  }
  EXPECT_FALSE(running.any().item<bool>());
  EXPECT_LE((sum - 1).abs().max().item<float>(), 1e-6f);
}

TEST(HaltingTest, Gradients) {
  const torch::Tensor p = torch::tensor({0.3, 0.3, 0.6}), h = torch::tensor({0.2, 0.8, 0.1});
  for (const bool last : {false, true}) {
    testing::expect_gradients(
        [&](const std::vector<torch::Tensor>& x) {
          return act_step(x[0], x[1], 0.01, last).weight + 0 * (x[0] + x[1]);  // every input takes part
        },
        {p, h});
  }
}

TEST(HaltingTest, TheGateReadsTheFirstFeature) {
  const torch::Tensor x = torch::tensor({{3.0, 100.0}, {3.1, -5.0}, {0.0, 7.0}}, torch::kFloat64);
  const torch::Tensor p = gate_probability(x, 10, 30);
  EXPECT_TRUE(at::allclose(p, torch::tensor({0.5, 0.7310585786300049, 9.357622968840175e-14}, torch::kFloat64), 1e-10, 0));
}

// Mean 1, deviation 2 over blocks 0, 1, 2: exp(-1/8), 1, exp(-1/8).
TEST(HaltingTest, ThePriorByHand) {
  const double side = std::exp(-0.125), sum = 1 + 2 * side;
  const torch::Tensor prior = log_depth_prior(3, 1, 2, torch::kFloat64).exp();
  EXPECT_TRUE(at::allclose(prior, torch::tensor({side / sum, 1 / sum, side / sum}, torch::kFloat64)));
  EXPECT_TRUE(torch::isfinite(log_depth_prior(12, 8, 0.1, torch::kFloat32)).all().item<bool>());
}

TEST(HaltingTest, TheDistributionLossByHand) {
  const torch::Tensor prior = torch::tensor({0.25, 0.5, 0.25}, torch::kFloat64);
  const auto loss = [&](std::vector<double> p) {
    return depth_distribution_loss(torch::tensor(p, torch::kFloat64), prior.log()).item<double>();
  };
  EXPECT_NEAR(loss({0.25, 0.5, 0.25}), 0, 1e-15);
  EXPECT_NEAR(loss({0.5, 0.5, 0}), 0.5 * std::log(2.0), 1e-15);  // and 0 log 0 = 0
  EXPECT_NEAR(loss({0, 0, 1}), std::log(4.0), 1e-15);
  torch::Tensor none = torch::tensor({1.0, 0.0, 0.0}, torch::requires_grad());
  depth_distribution_loss(none, prior.to(torch::kFloat32).log()).backward();
  EXPECT_TRUE(torch::isfinite(none.grad()).all().item<bool>());
}

TEST(HaltingTest, GradientsOfGateAndDistributionLoss) {
  testing::expect_gradients([](const std::vector<torch::Tensor>& x) { return gate_probability(x[0], 2, 0.5); },
                            {testing::random_tensor({4, 3}, 1)});
  const torch::Tensor log_prior = log_depth_prior(4, 2, 1, torch::kFloat64);
  testing::expect_gradients([&](const std::vector<torch::Tensor>& x) { return depth_distribution_loss(x[0], log_prior); },
                            {torch::tensor({0.1, 0.2, 0.6, 0.1})});
}

TEST(HaltingTest, AnEmptyStep) { EXPECT_EQ(act_step(torch::zeros({0}), torch::zeros({0}), 0.01, false).weight.numel(), 0); }

}  // namespace
}  // namespace adatape
