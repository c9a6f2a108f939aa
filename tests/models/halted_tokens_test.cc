// What has halted costs nothing and is not looked at: counts by hand, and NaN in the place of what must not matter.
#include <numeric>

#include "adatape/models/transformer.h"
#include "model_cases.h"

namespace adatape {
namespace {

using testing::make_model;
using testing::perturb;
using testing::symbol_batch;
using testing::symbol_spec;

const char kSmall[] = "width = 8\nheads = 2\nffn_width = 12\ninput = \"tokens\"\nmax_steps = 6\nhalting_bias = 0\n";

torch::Tensor parameter(const Model& model, const std::string& name) {
  for (const NamedParameter& one : model.named_parameters()) {
    if (one.name == name) return one.tensor;
  }
  throw std::runtime_error("no parameter " + name);
}

ModelOutput forward(Model& model, const Batch& batch) {
  torch::NoGradGuard no_grad;
  ForwardOptions options;
  options.record = true;
  return model.forward(batch, options);
}

// Steps of a model whose halting unit reads only its bias: p = sigmoid(bias), so every unit halts at the first n with n p > 1 - epsilon.
TEST(HaltedTokensTest, StepsFollowTheBias) {
  for (const auto& [bias, steps] : std::vector<std::pair<double, int>>{{5.0, 1}, {0.2, 2}, {-0.2, 3}, {-1.0, 4}, {-4.0, 6}}) {
    const auto model = make_model("universal_transformer", kSmall, symbol_spec());
    perturb(*model, 3);
    torch::NoGradGuard no_grad;
    parameter(*model, "halting.weight").zero_();
    parameter(*model, "halting.bias").fill_(bias);
    const ModelOutput output = forward(*model, symbol_batch({3, 5}, 4, 1));
    EXPECT_EQ(output.block_tokens.size(), static_cast<size_t>(steps)) << bias;
    EXPECT_TRUE(output.intermediates.at("steps").eq(steps).all().item<bool>());
    EXPECT_LE((output.step_weights.sum(1) - 1).abs().max().item<double>(), 1e-6);
  }
}

// With untied blocks, a block that nobody reaches may hold NaN: nothing halted goes through it.
TEST(HaltedTokensTest, NaNInBlocksThatNobodyReachesChangesNothing) {
  for (const char* halting : {"per_token", "per_example"}) {
    const auto model = make_model("u2t", std::string(kSmall) + "step_embedding = true\nhalting = \"" + halting + "\"\n", symbol_spec());
    perturb(*model, 3);
    torch::NoGradGuard no_grad;
    parameter(*model, "halting.bias").fill_(0.5);  // halts after two or three steps
    const Batch batch = symbol_batch({3, 5, 9}, 4, 1);
    const ModelOutput before = forward(*model, batch);
    const size_t ran = before.block_tokens.size();
    ASSERT_LT(ran, 6u);
    for (const NamedParameter& one : model->named_parameters()) {
      for (size_t block = ran; block < 6; ++block) {
        if (one.name.find("block_" + std::to_string(block) + ".") == 0) one.tensor.data().fill_(NAN);
      }
      if (one.name == "step_embedding") one.tensor.data().slice(0, static_cast<int64_t>(ran)).fill_(NAN);
    }
    EXPECT_TRUE(forward(*model, batch).logits.equal(before.logits)) << halting;
  }
}

// In per_example mode a halted example is in no later product: where examples halt at different steps, each computes its own tokens only.
TEST(HaltedTokensTest, OnlyRunningUnitsAreComputed) {
  for (const std::string halting : {"per_token", "per_example"}) {
    const auto model = make_model("universal_transformer", std::string(kSmall) + "halting = \"" + halting + "\"\n", symbol_spec());
    perturb(*model, 3, 0.6);
    const Batch batch = symbol_batch({3, 5, 9, 4}, 4, 2);
    const ModelOutput output = forward(*model, batch);
    const torch::Tensor steps = output.intermediates.at("steps");
    ASSERT_LT(steps.min().item<int>(), steps.max().item<int>()) << "the case must have units that halt at different steps";
    for (size_t step = 0; step < output.block_tokens.size(); ++step) {
      for (int64_t b = 0; b < batch.size(); ++b) {
        const int64_t length = batch.offsets[b + 1] - batch.offsets[b];
        const int64_t running =
            halting == "per_token"
                ? steps.slice(0, batch.offsets[b], batch.offsets[b + 1]).gt(static_cast<int64_t>(step)).sum().item<int64_t>()
            : steps[b].item<int64_t>() > static_cast<int64_t>(step) ? length
                                                                    : 0;
        EXPECT_EQ(output.block_tokens[step][b], running) << halting << " step " << step << " example " << b;
        for (const WorkItem& item : output.work) {
          const std::string part = "block " + std::to_string(step);
          if (item.part == part + " / feed-forward") {
            EXPECT_EQ(item.rows[b], running);
          } else if (item.part == part + " / attention") {
            EXPECT_EQ(item.rows[b], running * length);
          }
        }
      }
    }
  }
}

// ViT-S/16 at 224 x 224, counted by hand: 197 tokens, width 384, 12 blocks.
TEST(CostTest, VisionTransformerSmall) {
  InputSpec spec = testing::image_spec(224, 224, 1000);
  spec.channels = 3;
  const auto model = make_model(
      "vit", "width = 384\nheads = 6\nffn_width = 1536\nblocks = 12\npatch = 16\nclass_token = true\npooling = \"token\"\n", spec);
  const ModelOutput output = forward(*model, testing::image_batch(1, spec, 1));
  double flops = 0;
  for (const WorkItem& item : output.work) flops += static_cast<double>(item.rows[0] * item.flops_per_row);
  const double tokens = 197, width = 384;
  const double block = 2 * tokens * (4 * width * width + 2 * width * 1536) + 4 * tokens * tokens * width;
  EXPECT_NEAR(flops, 2 * 196 * 768 * width + 12 * block + 2 * width * 1000, 1e-9 * flops);
  EXPECT_NEAR(flops / 9.2e9, 1, 0.01);  // 4.6 G multiply-adds as published
}

}  // namespace
}  // namespace adatape
