#include "adatape/nn/text_block.h"

#include <cmath>

#include "adatape/nn/relative_buckets.h"
#include "adatape/nn/rotary.h"
#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using testing::largest_difference;
using testing::layout_of;
using testing::random_tensor;

TEST(NormTest, EqualsTheFormulas) {
  const torch::Tensor x = random_tensor({3, 5}, 1);
  Norm layer(NormKind::kLayer, 5, 0.3, true), bare(NormKind::kLayer, 5, 0.3, false), rms(NormKind::kRms, 5, 0.3, false);
  testing::perturb(layer, 2);
  testing::perturb(rms, 3);
  const torch::Tensor centred = x - x.mean(1, true);
  const torch::Tensor normed = centred / (centred.square().mean(1, true) + 0.3).sqrt();
  EXPECT_LE(largest_difference(layer.forward(x), normed * layer.weight + layer.bias), 1e-6);
  EXPECT_LE(largest_difference(bare.forward(x), normed), 1e-6);
  EXPECT_EQ(bare.named_parameters().size(), 1u);
  EXPECT_LE(largest_difference(rms.forward(x), x / (x.square().mean(1, true) + 0.3).sqrt() * rms.weight), 1e-6);
  EXPECT_THAT(error_of([] { Norm wrong(NormKind::kRms, 5, 0.3, true); }), ::testing::HasSubstr("no bias with RMSNorm"));
}

TEST(RotaryTest, ScoresDependOnTheDistanceAlone) {
  const torch::Tensor query = random_tensor({1, 2, 6}, 1), key = random_tensor({1, 2, 6}, 2);
  const auto score = [&](int64_t q, int64_t k) {
    return (rotate_by_position(query, torch::tensor({q}), 100) * rotate_by_position(key, torch::tensor({k}), 100)).sum(-1);
  };
  EXPECT_LE(largest_difference(score(7, 4), score(1003, 1000)), 2e-5);
  EXPECT_GT(largest_difference(score(7, 4), score(7, 5)), 1e-2);
  EXPECT_TRUE(rotate_by_position(query, torch::tensor({int64_t{0}}), 100).equal(query));
  // By hand: pair (x_1, x_4) of a head of 6 turns by 5 x 100^(-2/6).
  const torch::Tensor turned = rotate_by_position(query, torch::tensor({int64_t{5}}), 100)[0][1], x = query[0][1];
  const double angle = 5 * std::pow(100.0, -1.0 / 3), a = x[1].item<double>(), b = x[4].item<double>();
  EXPECT_NEAR(turned[1].item<double>(), a * std::cos(angle) - b * std::sin(angle), 1e-6);
  EXPECT_NEAR(turned[4].item<double>(), b * std::cos(angle) + a * std::sin(angle), 1e-6);
  EXPECT_THAT(error_of([] {
                rotate_by_position(torch::zeros({1, 1, 3}), torch::zeros({1}, torch::kInt64), 10);
              }),
              ::testing::HasSubstr("even head width, got 3"));
}

TEST(RelativeBucketTest, ByHand) {
  // 8 buckets to 16, causal: 0 1 2 3 exactly, then 4-5, 6-7, 8-11, 12 and more.
  const std::vector<int64_t> causal = {0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 7};
  for (size_t behind = 0; behind < causal.size(); ++behind)
    EXPECT_EQ(relative_bucket(-static_cast<int64_t>(behind), false, 8, 16), causal[behind]) << behind;
  EXPECT_EQ(relative_bucket(3, false, 8, 16), 0);  // ahead
  const std::vector<int64_t> both = {0, 1, 2, 2, 2, 2, 3, 3, 3};
  for (size_t far = 0; far < both.size(); ++far) {
    EXPECT_EQ(relative_bucket(-static_cast<int64_t>(far), true, 8, 16), both[far]) << far;
    const int64_t ahead = static_cast<int64_t>(far);
    EXPECT_EQ(relative_bucket(ahead, true, 8, 16), far > 0 ? both[far] + 4 : 0) << far;
  }
  EXPECT_EQ(relative_bucket(-1000000, true, 8, 16), 3);
}

TextBlockShape small_shape() {
  TextBlockShape shape;
  shape.width = 8;
  shape.heads = 4;
  shape.key_value_heads = 2;
  shape.head_width = 2;
  shape.ffn_width = 6;
  return shape;
}

std::vector<TextBlockShape> shapes() {
  std::vector<TextBlockShape> all(4, small_shape());
  all[0].key_value_heads = 4;
  all[1].parallel = true;
  all[1].rotary_base = 50;
  all[1].activation = Activation::kSwiGlu;
  all[1].biases = all[1].norm_bias = false;
  all[2].cross_attention = true;
  all[2].scaled = false;
  all[2].norm = NormKind::kRms;
  all[2].norm_bias = false;
  all[2].activation = Activation::kGatedGelu;
  all[3].activation = Activation::kRelu;
  return all;
}

// What a decoder has seen it need not see again: token by token, or some at a time, equals all at once.
TEST(TextBlockTest, TheCacheChangesNothing) {
  torch::NoGradGuard no_grad;
  for (const TextBlockShape& shape : shapes()) {
    TextBlock block(shape);
    testing::perturb(block, 3, 0.5);
    const PackedTokens x = testing::random_pack({5, 2, 4}, 8, 1), memory = testing::random_pack({3, 1, 2}, 8, 2);
    RelativeBuckets buckets(4, 8, 4, false);
    testing::perturb(buckets, 5, 1);
    TextBlockInputs inputs;
    inputs.memory = &memory;
    inputs.positions = torch::tensor({0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3}, torch::kInt64);
    if (shape.cross_attention) inputs.relative_bias = buckets.table(4);
    const torch::Tensor whole = block.forward(x, inputs, {}, 0, "").values;
    TextBlockCache cache;
    inputs.cache = &cache;
    // Rows of the three calls: 2 + 1 + 3 tokens, then 2 + 0 + 1, then the rest.
    const std::vector<std::vector<int64_t>> rows = {{0, 1, 5, 7, 8, 9}, {2, 3, 10}, {4, 6}}, lengths = {{2, 1, 3}, {2, 0, 1}, {1, 1, 0}};
    const torch::Tensor positions = inputs.positions;
    for (size_t call = 0; call < rows.size(); ++call) {
      const torch::Tensor index = torch::tensor(rows[call], torch::kInt64);
      inputs.positions = positions.index_select(0, index);
      const torch::Tensor part = block.forward({x.values.index_select(0, index), layout_of(lengths[call])}, inputs, {}, 0, "").values;
      EXPECT_LE(largest_difference(part, whole.index_select(0, index)), 1e-5) << "call " << call;
    }
  }
}

TEST(TextBlockTest, LaterTokensAreNotSeen) {
  torch::NoGradGuard no_grad;
  for (TextBlockShape shape : shapes()) {
    shape.cross_attention = false;
    TextBlock block(shape);
    testing::perturb(block, 3, 0.5);
    const PackedTokens x = testing::random_pack({5}, 8, 1);
    TextBlockInputs inputs;
    inputs.positions = torch::arange(5, torch::kInt64);
    const torch::Tensor before = block.forward(x, inputs, {}, 0, "").values;
    PackedTokens changed = x;
    changed.values = x.values.clone();
    changed.values[3][0].add_(2);  // one feature: a norm takes away what is added to all
    const torch::Tensor after = block.forward(changed, inputs, {}, 0, "").values;
    EXPECT_TRUE(after.narrow(0, 0, 3).equal(before.narrow(0, 0, 3)));
    EXPECT_GT(largest_difference(after[4], before[4]), 1e-3);
  }
}

TEST(TextBlockTest, Gradients) {
  for (const TextBlockShape& shape : shapes()) {
    TextBlock block(shape);
    testing::perturb(block, 3, 0.5);
    block.to(torch::kFloat64);
    const auto layout = layout_of({2, 1}), memory_layout = layout_of({1, 2});
    testing::expect_gradients(
        [&](const std::vector<torch::Tensor>& x) {
          const PackedTokens memory{x[1], memory_layout};
          TextBlockInputs inputs;
          inputs.memory = &memory;
          inputs.positions = torch::tensor({0, 1, 0}, torch::kInt64);
          const torch::Tensor y = block.forward({x[0], layout}, inputs, {}, 0, "").values;
          return shape.cross_attention ? y : y + 0 * x[1];
        },
        {random_tensor({3, 8}, 5), random_tensor({3, 8}, 6)});
  }
}

TEST(TextBlockTest, ShapesThatDoNotFitAreNamed) {
  TextBlockShape shape = small_shape();
  shape.key_value_heads = 3;
  EXPECT_THAT(error_of([&] { TextBlock block(shape); }), ::testing::HasSubstr("got 3 and 4"));
  shape = small_shape();
  shape.cross_attention = true;
  EXPECT_THAT(error_of([&] { TextBlock(shape).forward(testing::random_pack({2}, 8, 1), {}, {}, 0, ""); }),
              ::testing::HasSubstr("expected a memory for cross-attention"));
  EXPECT_THAT(error_of([] { parse_activation("tanh"); }), ::testing::HasSubstr("got \"tanh\""));
}

}  // namespace
}  // namespace adatape
