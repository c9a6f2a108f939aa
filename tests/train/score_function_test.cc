#include "adatape/train/score_function.h"

#include <gtest/gtest.h>
#include <torch/types.h>

#include "adatape/core/check.h"
#include "adatape/tasks/task.h"
#include "adatape/train/trainer.h"
#include "tests/error_of.h"
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
  EXPECT_EQ(error_of([] { score_function_loss(torch::zeros({3}), torch::zeros({2})); }),
            "score function: expected a loss and a log-density for each example, got [3] and [2]");
}

// The right answer's logit is what the model drew around `mean`: the higher, the smaller the loss, and no other gradient leads there.
class DrawingModel : public testing::TinyModel {
 public:
  explicit DrawingModel(double weight_) : choice_weight(weight_) { mean = register_parameter("mean", torch::zeros({1})); }
  void initialize(uint64_t, uint64_t) override {}
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override {
    const torch::Tensor draws = counter_normal(options.seed, options.step, site(Site::kDropout), batch.examples, 1).squeeze(1);
    const torch::Tensor drawn = mean.detach() + draws * (options.training ? 1.0 : 0.0);
    ModelOutput output;
    output.logits = torch::one_hot(batch.labels, 2) * drawn.unsqueeze(1) + 0 * mean;
    if (options.training) output.random_choices.push_back({-0.5 * (drawn - mean).square(), choice_weight});
    return output;
  }
  torch::Tensor mean;
  double choice_weight;
};

TEST(ScoreFunction, MovesWhatNothingElseMoves) {
  for (const double weight : {0.0, 1.0}) {
    const TemporaryFolder folder;
    RunConfig config = testing::tiny_config({"training.steps=40", "training.batch_size=64", "training.weight_decay=0"});
    DrawingModel model(weight);
    const std::unique_ptr<Task> task = find_task("parity").make_task(*config.task);
    Trainer(config, *task, model, {.output = folder / "run", .command = "test", .quiet = true}).run();
    if (weight == 0) {
      EXPECT_EQ(model.mean.item<float>(), 0);
    } else {
      EXPECT_GT(model.mean.item<float>(), 0.3);
    }
  }
}

}  // namespace
}  // namespace adatape
