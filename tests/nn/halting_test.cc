#include "adatape/nn/halting.h"

#include <cmath>

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

TEST(HaltingTest, OneStepByHand) {
  const torch::Tensor p = torch::tensor({0.3, 0.3, 0.99, 0.5, 0.985}, torch::kFloat64),
                      h = torch::tensor({0.2, 0.8, 0.0, 0.495, 0.0}, torch::kFloat64);
  const ActStep step = act_step(p, h, 0.01, false);
  EXPECT_TRUE(step.halts.equal(torch::tensor({false, true, false, true, false})));  // h + p > 0.99; 0.99 itself goes on
  EXPECT_TRUE(at::allclose(step.weight, torch::tensor({0.3, 0.2, 0.99, 0.505, 0.985}, torch::kFloat64)));
}

// A probability that rounding makes 1 needs no second step with the recurrent networks' rule, whose bound belongs to it.
TEST(HaltingTest, AtTheBoundItself) {
  const torch::Tensor p = torch::tensor({1.0f, 0.75f}), h = torch::zeros({2});
  EXPECT_TRUE(act_step(p, h, 0, false).halts.equal(torch::tensor({false, false})));
  const ActStep step = act_step(p, h, 0, false, HaltsAt::kAboveOrEqual);
  EXPECT_TRUE(step.halts.equal(torch::tensor({true, false})));
  EXPECT_TRUE(step.weight.equal(torch::tensor({1.0f, 0.75f})));
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

TEST(PonderTest, OneStepByHand) {
  const torch::Tensor lambda = torch::tensor({0.5, 0.25, 0.8, 0.1}, torch::kFloat64),
                      left = torch::tensor({1.0, 0.4, 0.5, 0.5}, torch::kFloat64);
  const PonderStep step = ponder_step(lambda, left, 0.6, false);
  EXPECT_TRUE(at::allclose(step.left, torch::tensor({0.5, 0.3, 0.1, 0.45}, torch::kFloat64)));
  EXPECT_TRUE(step.halts.equal(torch::tensor({false, true, true, false})));  // 0.5, 0.7, 0.9, 0.55 of the mass have halted
  EXPECT_TRUE(at::allclose(step.weight, torch::tensor({0.5, 0.4, 0.5, 0.05}, torch::kFloat64)));
  const PonderStep last = ponder_step(lambda, left, 0.6, true);
  EXPECT_TRUE(last.halts.all().item<bool>());
  EXPECT_TRUE(last.weight.equal(left));
  EXPECT_FALSE(ponder_step(torch::tensor({1.0}), torch::tensor({1.0}), 1.0, false).halts.item<bool>());  // threshold 1: only at the last
}

TEST(PonderTest, PriorsByHand) {
  // lambda 0.5 over 3 steps: 1/2, 1/4, 1/8 of 7/8, or what is left on the last.
  const auto prior = [](Truncation truncation) { return log_truncated_geometric(0.5, 3, truncation).exp(); };
  EXPECT_TRUE(at::allclose(prior(Truncation::kRenormalised), torch::tensor({4.0, 2.0, 1.0}, torch::kFloat64) / 7));
  EXPECT_TRUE(at::allclose(prior(Truncation::kRestOnLast), torch::tensor({0.5, 0.25, 0.25}, torch::kFloat64)));
  for (const Truncation truncation : {Truncation::kRenormalised, Truncation::kRestOnLast}) {
    EXPECT_NEAR(log_truncated_geometric(0.03, 20, truncation).exp().sum().item<double>(), 1, 1e-12);
    EXPECT_NEAR(log_truncated_geometric(0.3, 1, truncation).item<double>(), 0, 1e-12);
  }
  EXPECT_EQ(error_of([] { log_truncated_geometric(1.0, 3, Truncation::kRenormalised); }),
            "halting: expected lambda in (0, 1) and a last step >= 1, got 1 and 3");
  EXPECT_EQ(error_of([] { parse_truncation("none"); }), "halting: expected renormalised or rest_on_last, got \"none\"");
}

TEST(PonderTest, DivergenceByHand) {
  const torch::Tensor p = torch::tensor({{0.25, 0.25, 0.5}, {0.5, 0.5, 0.0}, {4.0 / 7, 2.0 / 7, 1.0 / 7}}, torch::kFloat64);
  const torch::Tensor got = divergence_from_geometric(p, torch::tensor({3, 2, 3}), 0.5, Truncation::kRenormalised);
  // p log(p / prior); the second example's prior is 2/3, 1/3 over its own two steps.
  EXPECT_NEAR(got[0].item<double>(), 0.25 * std::log(0.25 * 7 / 4) + 0.25 * std::log(0.25 * 7 / 2) + 0.5 * std::log(0.5 * 7), 1e-12);
  EXPECT_NEAR(got[1].item<double>(), 0.5 * std::log(0.5 * 3 / 2) + 0.5 * std::log(0.5 * 3), 1e-12);
  EXPECT_NEAR(got[2].item<double>(), 0, 1e-12);
  // All mass on a step: the direction KL(p || prior) stays finite, the other would not.
  EXPECT_NEAR(divergence_from_geometric(torch::tensor({{0.0, 1.0}}, torch::kFloat64), torch::tensor({2}), 0.5, Truncation::kRestOnLast)
                  .item<double>(),
              std::log(2), 1e-12);
}

TEST(PonderTest, Gradients) {
  testing::expect_gradients(
      [](const std::vector<torch::Tensor>& x) {
        torch::Tensor left = torch::ones({4}, torch::kFloat64);
        std::vector<torch::Tensor> weights;
        for (int64_t n = 0; n < 3; ++n) {
          const PonderStep step = ponder_step(x[0].select(1, n), left, 1.0, n == 2);
          weights.push_back(step.weight);
          left = step.left;
        }
        const torch::Tensor p = torch::stack(weights, 1);
        return torch::cat({p.flatten(), divergence_from_geometric(p, torch::full({4}, 3, torch::kInt64), 0.3, Truncation::kRenormalised)});
      },
      {torch::sigmoid(testing::random_tensor({4, 3}, 5))});
}

// Halting for certain leaves zeros: neither value nor gradient may be NaN.
TEST(PonderTest, CertainHaltingStaysFinite) {
  torch::Tensor lambda = torch::tensor({{1.0f, 0.3f}, {0.0f, 0.3f}}).requires_grad_(true);
  const PonderStep first = ponder_step(lambda.select(1, 0), torch::ones({2}), 1.0, false);
  const PonderStep second = ponder_step(lambda.select(1, 1), first.left, 1.0, true);
  const torch::Tensor p = torch::stack({first.weight, second.weight}, 1);
  const torch::Tensor divergence = divergence_from_geometric(p, torch::full({2}, 2, torch::kInt64), 0.3, Truncation::kRenormalised);
  divergence.sum().backward();
  EXPECT_TRUE(torch::isfinite(divergence).all().item<bool>());
  EXPECT_TRUE(torch::isfinite(lambda.grad()).all().item<bool>());
}

TEST(HaltingTest, AnEmptyStep) { EXPECT_EQ(act_step(torch::zeros({0}), torch::zeros({0}), 0.01, false).weight.numel(), 0); }

}  // namespace
}  // namespace adatape
