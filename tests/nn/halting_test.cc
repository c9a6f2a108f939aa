#include "adatape/nn/halting.h"

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

TEST(HaltingTest, AnEmptyStep) { EXPECT_EQ(act_step(torch::zeros({0}), torch::zeros({0}), 0.01, false).weight.numel(), 0); }

}  // namespace
}  // namespace adatape
