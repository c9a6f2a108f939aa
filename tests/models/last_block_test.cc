// last_block = "pooled": the same logits and gradients for less work.
#include "model_cases.h"

namespace adatape {
namespace {

int64_t flops_of(const ModelOutput& output) {
  int64_t flops = 0;
  for (const WorkItem& item : output.work) {
    for (const int64_t rows : item.rows) flops += rows * item.flops_per_row;
  }
  return flops;
}

TEST(LastBlockTest, PooledGivesWhatAllGives) {
  int compared = 0;
  for (const testing::ModelCase& one : testing::model_cases()) {
    if (one.keys.find("last_block") == std::string::npos) continue;
    SCOPED_TRACE(one.label);
    testing::ModelCase whole = one;
    const std::string pooled = "last_block = \"pooled\"\n";
    whole.keys.erase(whole.keys.find(pooled), pooled.size());
    const auto model = one.make(), reference = whole.make();
    const ModelOutput got = model->forward(one.batch(), {.record = true}), expected = reference->forward(one.batch(), {.record = true});
    EXPECT_LT((got.logits - expected.logits).abs().max().item<double>(), 1e-5);
    EXPECT_LT(flops_of(got), flops_of(expected));
    EXPECT_EQ(got.block_tokens, expected.block_tokens);  // all tokens are read; what is saved shows in the FLOPs
    got.logits.square().sum().backward();
    expected.logits.square().sum().backward();
    const auto parameters = model->named_parameters(), others = reference->named_parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const torch::Tensor gradient = parameters[i].tensor.grad(), other = others[i].tensor.grad();
      if (!gradient.defined()) {  // a network that only the other tokens would have passed
        EXPECT_TRUE(!other.defined() || other.abs().max().item<double>() == 0) << parameters[i].name;
        continue;
      }
      EXPECT_LT((gradient - other).abs().max().item<double>(), 1e-4 * std::max(1.0, other.abs().max().item<double>()))
          << parameters[i].name;
    }
    ++compared;
  }
  EXPECT_EQ(compared, 2);
}

TEST(LastBlockTest, NeedsAClassToken) {
  try {
    testing::make_model("vit", "width = 16\nheads = 4\npatch = 4\nlast_block = \"pooled\"\n", testing::image_spec());
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("model.last_block: \"pooled\" needs model.pooling = \"token\", got \"gap\""));
  }
}

}  // namespace
}  // namespace adatape
