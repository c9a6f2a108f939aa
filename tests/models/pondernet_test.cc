// PonderNet's two ways of halting outside training, on a cell whose every number is worked out by hand.
#include <algorithm>
#include <cmath>
#include <map>

#include "model_cases.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::make_model;
using testing::vector_batch;
using testing::vector_spec;

constexpr int kSteps = 4;

// s_n = tanh(x + s_{n-1}) from number x of the input, lambda_n = sigmoid(3 s_n - 2), the first logit is s_n.
struct ByHand {
  double x;
  std::vector<double> states, p;  // p_n = lambda_n prod (1 - lambda_j), the rest at the last step
};
const ByHand kSlow{-0.3, {-0.29131, -0.53084, -0.68093, -0.75347}, {0.05346, 0.02536, 0.01589, 0.90530}},
    kMiddle{0.5, {0.46212, 0.74522, 0.84694, 0.87333}, {0.35123, 0.36243, 0.18097, 0.10537}},
    kFast{2.0, {0.96403, 0.99469, 0.99500, 0.99501}, {0.70932, 0.21159, 0.05759, 0.02150}};

std::shared_ptr<Model> model_by_hand(const std::string& evaluation) {
  const auto model = make_model("pondernet", "width = 2\nheads = 1\nstep = \"rnn\"\nmax_steps = 4\nhalting_threshold = 0.8\n" + evaluation,
                                vector_spec(1));
  const torch::NoGradGuard no_grad;
  for (const NamedParameter& parameter : model->named_parameters()) {
    parameter.tensor.zero_();
    if (parameter.name == "cell.weight_ih" || parameter.name == "cell.weight_hh" || parameter.name == "output.weight")
      parameter.tensor[0][0] = 1;
    if (parameter.name == "halting.weight") parameter.tensor[0][0] = 3;
    if (parameter.name == "halting.bias") parameter.tensor[0] = -2;
  }
  return model;
}

Batch batch_of(const std::vector<ByHand>& examples) {
  Batch batch = vector_batch(std::vector<int64_t>(examples.size(), 1), 5, 1);
  for (size_t b = 0; b < examples.size(); ++b) batch.vectors[static_cast<int64_t>(b)][0] = examples[b].x;
  return batch;
}

ModelOutput forward(Model& model, const Batch& batch, uint64_t seed = 3, uint64_t step = 0) {
  const torch::NoGradGuard no_grad;
  return model.forward(batch, {.record = true, .seed = seed, .step = step});
}

std::vector<int> steps_of(const ModelOutput& output) {
  const torch::Tensor steps = output.intermediates.at("steps");
  return {steps.const_data_ptr<int>(), steps.const_data_ptr<int>() + steps.numel()};
}

// Cumulative p against 0.8: kFast has 0.71, 0.92; kMiddle 0.35, 0.71, 0.89; kSlow never and halts at the last step.
TEST(PonderNetTest, TheThresholdByHand) {
  const auto model = model_by_hand("");
  const ModelOutput output = forward(*model, batch_of({kSlow, kFast, kMiddle}));
  EXPECT_THAT(steps_of(output), ElementsAre(4, 2, 3));
  EXPECT_NEAR(output.logits[0][0].item<double>(), kSlow.states[3], 1e-5);
  EXPECT_NEAR(output.logits[1][0].item<double>(), kFast.states[1], 1e-5);
  EXPECT_NEAR(output.logits[2][0].item<double>(), kMiddle.states[2], 1e-5);
  EXPECT_EQ(output.block_tokens, (std::vector<std::vector<int64_t>>{{1, 1, 1}, {1, 1, 1}, {1, 0, 1}, {1, 0, 0}}));
  // p of the steps taken; what is left is the last one's.
  EXPECT_NEAR(output.intermediates.at("p")[1][0].item<double>(), kFast.p[0], 1e-5);
  EXPECT_NEAR(output.intermediates.at("p")[1][1].item<double>(), 1 - kFast.p[0], 1e-5);
  EXPECT_EQ(output.intermediates.at("p")[1][2].item<double>(), 0);
}

TEST(PonderNetTest, SampledHaltingFollowsTheDistribution) {
  const auto model = model_by_hand("evaluation = \"sampled\"\n");
  constexpr int kDraws = 20000;
  for (const ByHand& example : {kSlow, kMiddle, kFast}) {
    const Batch batch = batch_of(std::vector<ByHand>(kDraws, example));
    const ModelOutput output = forward(*model, batch);
    const std::vector<int> steps = steps_of(output);
    for (int n = 1; n <= kSteps; ++n) {
      const double p = example.p[static_cast<size_t>(n - 1)];
      EXPECT_NEAR(static_cast<double>(std::count(steps.begin(), steps.end(), n)) / kDraws, p, 4 * std::sqrt(p * (1 - p) / kDraws))
          << "x " << example.x << ", step " << n;
    }
    for (size_t b = 0; b < 100; ++b) {
      EXPECT_NEAR(output.logits[static_cast<int64_t>(b)][0].item<double>(), example.states[static_cast<size_t>(steps[b] - 1)], 1e-5);
    }
    // Draws go by seed, step and example alone.
    EXPECT_EQ(steps, steps_of(forward(*model, batch)));
    EXPECT_NE(steps, steps_of(forward(*model, batch, 4)));
    EXPECT_NE(steps, steps_of(forward(*model, batch, 3, 1)));
  }
}

TEST(PonderNetTest, ExpertsNeedAnEncoderBlock) {
  const auto make = [](const std::string& step) {
    return make_model("pondernet", "width = 8\nheads = 2\nffn_width = 8\nstep = \"" + step + "\"\n[moe]\nexperts = 2\n", vector_spec(1));
  };
  for (const char* step : {"gru", "mlp"}) {
    try {
      make(step);
      FAIL() << step;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(std::string("model.moe.experts: expected 0 with model.step = \"") + step + "\", got 2"));
    }
  }
  EXPECT_NE(make("transformer"), nullptr);
}

// Losses of steps that only some of the examples took are added up for the batch, and counted.
TEST(PonderNetTest, ExpertsLossesAreOfAllExamples) {
  const auto model = make_model("pondernet",
                                "width = 8\nheads = 2\nffn_width = 8\nstep = \"transformer\"\nmax_steps = 4\ntraining_steps = \"mass\"\n"
                                "training_mass = 0.6\n[moe]\nexperts = 4\ncapacity = 0.5\n",
                                testing::symbol_spec());
  testing::perturb(*model, 7, 0.6);
  const ModelOutput output = model->forward(testing::symbol_batch({3, 5, 9, 4, 7}, 4, 2), {.training = true, .record = true});
  const torch::Tensor steps = output.step_weights.gt(0).sum(1);
  ASSERT_LT(steps.min().item<int64_t>(), steps.max().item<int64_t>()) << "the case must have examples that halt at different steps";
  std::map<std::string, torch::Tensor> losses;
  for (const AuxiliaryLoss& loss : output.auxiliary_losses) {
    EXPECT_EQ(losses.count(loss.name), 0u) << loss.name;
    EXPECT_EQ(loss.values.sizes(), (at::IntArrayRef{5})) << loss.name;
    losses[loss.name] = loss.values;
  }
  EXPECT_TRUE(losses.at("expert_tokens").eq(steps * torch::tensor({3, 5, 9, 4, 7})).all().item<bool>());
  EXPECT_TRUE(losses.at("expert_choices").equal(2 * losses.at("expert_tokens")));
  int64_t choices = 0, served = 0;
  for (const ExpertLoad& load : output.expert_loads) {
    choices += load.choices;
    for (const int64_t of_expert : load.served) served += of_expert;
  }
  EXPECT_EQ(losses.at("expert_choices").sum().item<int64_t>(), choices);
  EXPECT_EQ(losses.at("dropped_choices").sum().item<int64_t>(), choices - served);
  EXPECT_GT(choices, served);
}

}  // namespace
}  // namespace adatape
