#include "adatape/train/score_function.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "adatape/core/check.h"
#include "tests/train/test_run.h"

namespace adatape {
namespace {

// Losses 1, 2, 3 standardise to -+sqrt(3/2) and 0: the gradient by each log-density is that over the number of examples.
TEST(ScoreFunction, IsTheStandardisedLossTimesTheLogDensity) {
  const torch::Tensor losses = torch::tensor({1.0, 2.0, 3.0}, torch::kDouble).set_requires_grad(true);
  const torch::Tensor log_density = torch::tensor({-1.0, 5.0, 0.5}, torch::kDouble).set_requires_grad(true);
  const torch::Tensor term = score_function_loss(losses, log_density);
  EXPECT_NEAR(term.item<double>(), std::sqrt(1.5) * 1.5 / 3, 1e-7);
  term.backward();
  EXPECT_TRUE(torch::allclose(log_density.grad(), torch::tensor({-1.0, 0.0, 1.0}, torch::kDouble) * std::sqrt(1.5) / 3, 1e-6, 1e-6));
  EXPECT_FALSE(losses.grad().defined());
}

TEST(ScoreFunction, EqualLossesSayNothing) {
  for (const int64_t count : {1, 4}) {
    EXPECT_EQ(score_function_loss(torch::full({count}, 0.7), torch::randn({count})).item<float>(), 0) << count;
  }
}

TEST(ScoreFunction, SaysWhatDoesNotFit) {
  EXPECT_EQ(testing::error_of([] { score_function_loss(torch::zeros({3}), torch::zeros({2})); }),
            "score function: expected a loss and a log-density for each example, got [3] and [2]");
}

}  // namespace
}  // namespace adatape
