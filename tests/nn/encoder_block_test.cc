#include "adatape/nn/encoder_block.h"

#include <cmath>

#include "adatape/nn/dropout.h"
#include "adatape/ops/plain_calls.h"
#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using testing::largest_difference;
using testing::layout_of;
using testing::random_pack;
using testing::rows_of_example;
using Kind = TokenKind;

constexpr EncoderBlockShape kShape{8, 2, 12, 0, Gelu::kTanh, 0};

std::shared_ptr<EncoderBlock> block_of(EncoderBlockShape shape) {
  auto block = std::make_shared<EncoderBlock>(shape);
  at::Generator generator = parameter_generator(1, 0);
  block->initialize(generator);
  testing::perturb(*block, 2);
  return block;
}

torch::Tensor norm(const torch::Tensor& x, const LayerNorm& parameters) {
  const torch::Tensor centred = x - x.mean(1, true);
  return centred / (centred.square().mean(1, true) + 1e-6).sqrt() * parameters.weight + parameters.bias;
}

torch::Tensor affine(const torch::Tensor& x, const Linear& parameters) { return x.mm(parameters.weight.t()) + parameters.bias; }

torch::Tensor plain_mlp(const torch::Tensor& x, const Mlp& mlp) {
  const torch::Tensor y = affine(x, *mlp.expand);
  const torch::Tensor gelu = mlp.gelu == Gelu::kTanh ? 0.5 * y * (1 + (std::sqrt(2 / M_PI) * (y + 0.044715 * y.pow(3))).tanh())
                                                     : 0.5 * y * (1 + (y / std::sqrt(2.0)).erf());
  return affine(gelu, *mlp.contract);
}

torch::Tensor plain_glu(const torch::Tensor& x, const GluMlp& mlp) {
  const std::vector<torch::Tensor> halves = affine(x, *mlp.expand).chunk(2, 1);
  return affine(halves[0] * halves[1].sigmoid(), *mlp.contract);
}

// One example [n, D]; queries are the rows named (all where empty). tape: which rows are tape tokens.
torch::Tensor plain_block(const torch::Tensor& x, const EncoderBlock& block, const std::vector<bool>& tape = {}) {
  const int64_t width = block.shape.width, dim = width / block.shape.heads;
  const torch::Tensor qkv = affine(norm(x, *block.attention_norm), *block.qkv);
  std::vector<torch::Tensor> heads;
  for (int64_t h = 0; h < block.shape.heads; ++h) {
    const auto part = [&](int64_t i) { return qkv.slice(1, i * width + h * dim, i * width + (h + 1) * dim); };
    heads.push_back((part(0).mm(part(1).t()) / std::sqrt(static_cast<double>(dim))).softmax(1).mm(part(2)));
  }
  const torch::Tensor attended = x + affine(torch::cat(heads, 1), *block.output);
  const torch::Tensor normed = norm(attended, *block.feed_forward_norm);
  torch::Tensor branch = plain_mlp(normed, *block.feed_forward);
  for (size_t i = 0; block.tape_feed_forward && i < tape.size(); ++i) {
    if (tape[i]) branch[static_cast<int64_t>(i)] = plain_glu(normed, *block.tape_feed_forward)[static_cast<int64_t>(i)];
  }
  return attended + branch;
}

TEST(EncoderBlockTest, EqualsTheFormula) {
  torch::NoGradGuard no_grad;
  for (const Gelu gelu : {Gelu::kTanh, Gelu::kExact}) {
    EncoderBlockShape shape = kShape;
    shape.gelu = gelu;
    const auto block = block_of(shape);
    const PackedTokens x = random_pack({3, 5, 1, 3}, 8, 3);
    const PackedTokens y = block->forward(x, {}, 0);
    EXPECT_EQ(y.layout, x.layout);
    for (int64_t b = 0; b < 4; ++b) {
      EXPECT_LE(largest_difference(rows_of_example(y.values, *x.layout, b), plain_block(rows_of_example(x.values, *x.layout, b), *block)),
                4e-6);
    }
  }
}

TEST(EncoderBlockTest, TapeTokensHaveTheirOwnNetwork) {
  torch::NoGradGuard no_grad;
  EncoderBlockShape shape = kShape;
  shape.tape_ffn_width = 6;
  const auto block = block_of(shape);
  const PackedTokens x = random_pack({3, 2}, 8, 3, {Kind::kClass, Kind::kInput, Kind::kTape, Kind::kTape, Kind::kInput});
  const torch::Tensor y = block->forward(x, {}, 0).values;
  EXPECT_LE(largest_difference(y.slice(0, 0, 3), plain_block(x.values.slice(0, 0, 3), *block, {false, false, true})), 4e-6);
  EXPECT_LE(largest_difference(y.slice(0, 3, 5), plain_block(x.values.slice(0, 3, 5), *block, {true, false})), 4e-6);
}

TEST(EncoderBlockTest, KeysOnlyTokensAreSeenAndNotComputed) {
  torch::NoGradGuard no_grad;
  const auto block = block_of(kShape);
  const PackedTokens all = random_pack({3, 4, 2}, 8, 3);
  const std::vector<int64_t> running = {1, 2, 7, 8};  // example 1 has halted
  const torch::Tensor rows = index_tensor(running, torch::kCPU);
  const std::vector<int64_t> key_rows = {0, 1, 2, 7, 8};
  std::vector<WorkItem> work;
  ForwardContext context;
  context.work = &work;
  const auto queries = kept_layout(*all.layout, running), keys = kept_layout(*all.layout, key_rows);
  const torch::Tensor some = block->forward_queries(all.values.index_select(0, rows), queries,
                                                    all.values.index_select(0, index_tensor(key_rows, torch::kCPU)), *keys, context, 0);
  EXPECT_LE(largest_difference(some, block->forward(all, {}, 0).values.index_select(0, rows)), 2e-6);
  for (const WorkItem& item : work) {
    const bool of_keys = item.part == "block 0 / key and value projections";
    EXPECT_THAT(item.rows, of_keys                              ? ::testing::ElementsAre(3, 0, 2)
                           : item.part == "block 0 / attention" ? ::testing::ElementsAre(6, 0, 4)
                                                                : ::testing::ElementsAre(2, 0, 2))
        << item.part;
  }
  EXPECT_EQ(work.size(), 4u);
}

// Width 32: a whole panel of columns with 8 lanes and with 16, so that queries and keys have packed weights of their own. Width 24 cuts
// one.
TEST(EncoderBlockTest, SomeQueriesOnPackedWeightsAreTheSame) {
  torch::NoGradGuard no_grad;
  for (const int64_t width : {32, 24}) {
    const auto block = block_of({width, 2, 40, 0, Gelu::kTanh, 0});
    const PackedTokens all = random_pack({5, 4}, width, 3);
    const torch::Tensor rows = torch::tensor({0, 3, 7}), some = all.values.index_select(0, rows);
    const auto queries = layout_of({2, 1});
    const torch::Tensor expected = block->forward_queries(some, queries, all.values, *all.layout, {}, 0);
    block->pack_for_inference(torch::kFloat);
    const torch::Tensor packed = block->forward_queries(some, queries, all.values, *all.layout, {}, 0);
    EXPECT_LE(largest_difference(packed, expected), 2e-5) << width;
    EXPECT_LE(largest_difference(packed, block->forward(all, {}, 0).values.index_select(0, rows)), 2e-5) << width;
    const ops::PlainCalls guard;  // packed weights are left aside
    const torch::Tensor plain = block->forward_queries(some, queries, all.values, *all.layout, {}, 0);
    block->unpack_weights();
    EXPECT_TRUE(plain.equal(block->forward_queries(some, queries, all.values, *all.layout, {}, 0))) << width;
  }
}

TEST(EncoderBlockTest, OneQueryCostsNoProductATokenAndGivesTheSame) {
  torch::NoGradGuard no_grad;
  const auto block = block_of(kShape);
  const PackedTokens all = random_pack({3, 1, 5}, 8, 2);
  const std::vector<int64_t> first = {0, 3, 4};
  const auto queries = kept_layout(*all.layout, first);
  const torch::Tensor of_queries = all.values.index_select(0, index_tensor(first, torch::kCPU));
  std::vector<WorkItem> work;
  ForwardContext context;
  context.work = &work;
  const int64_t before = matrix_product_flops();
  const torch::Tensor got = block->forward_queries(of_queries, queries, all.values, *all.layout, context, 0, 0, /*one_query=*/true);
  int64_t counted = 0;
  for (const WorkItem& item : work) {
    EXPECT_THAT(item.rows, item.part == "block 0 / attention" ? ::testing::ElementsAre(3, 1, 5) : ::testing::ElementsAre(1, 1, 1))
        << item.part;
    for (const int64_t rows : item.rows) counted += rows * item.flops_per_row;
  }
  EXPECT_EQ(counted, matrix_product_flops() - before);
  EXPECT_LE(largest_difference(got, block->forward_queries(of_queries, queries, all.values, *all.layout, {}, 0)), 2e-6);
}

TEST(EncoderBlockTest, EmptyPack) {
  const auto block = block_of(kShape);
  for (const auto& lengths : std::vector<std::vector<int64_t>>{{}, {0}, {0, 0}}) {
    EXPECT_EQ(block->forward(random_pack(lengths, 8, 1), {}, 0).values.sizes(), (at::IntArrayRef{0, 8}));
  }
}

TEST(EncoderBlockTest, HeadsMustDivideTheWidth) {
  EncoderBlockShape shape = kShape;
  shape.heads = 3;
  EXPECT_THAT(error_of([&] { EncoderBlock block(shape); }),
              ::testing::HasSubstr("expected heads that divide the width, got width 8 and heads 3"));
}

TEST(EncoderBlockTest, Gradients) {
  EncoderBlockShape shape = kShape;
  shape.width = 4;
  shape.ffn_width = 3;
  shape.tape_ffn_width = 2;
  const auto block = block_of(shape);
  block->to(torch::kFloat64);
  const auto layout = layout_of({2, 1}, {Kind::kInput, Kind::kTape, Kind::kInput});
  testing::expect_gradients(
      [&](const std::vector<torch::Tensor>& x) {
        return block->forward({x[0], layout}, {}, 0).values;
      },
      {testing::random_tensor({3, 4}, 5)});
}

TEST(FeedForwardTest, Names) {
  EXPECT_EQ(parse_gelu("tanh"), Gelu::kTanh);
  EXPECT_EQ(parse_gelu("exact"), Gelu::kExact);
  EXPECT_THAT(error_of([] { parse_gelu("relu"); }), ::testing::HasSubstr("relu"));
}

ForwardContext training_context(const std::vector<int64_t>& examples, uint64_t step = 4) {
  ForwardContext context;
  context.training = true;
  context.seed = 3;
  context.step = step;
  context.examples = torch::tensor(examples, torch::kInt64);
  return context;
}

TEST(DropoutTest, DrawsBelongToTheExample) {
  const torch::Tensor ones = torch::ones({50, 20});
  const auto uniform = layout_of({25, 25}), ragged = layout_of({5, 25, 20});
  const torch::Tensor a = dropout(ones, *uniform, 0.3, training_context({7, 8}), 2),
                      b = dropout(ones, *ragged, 0.3, training_context({9, 7, 8}), 2);
  EXPECT_TRUE(rows_of_example(a, *uniform, 0).equal(rows_of_example(b, *ragged, 1)));
  EXPECT_TRUE(rows_of_example(a, *uniform, 1).slice(0, 0, 20).equal(rows_of_example(b, *ragged, 2)));
  EXPECT_FALSE(a.equal(dropout(ones, *uniform, 0.3, training_context({7, 8}, 5), 2)));
  EXPECT_FALSE(a.equal(dropout(ones, *uniform, 0.3, training_context({7, 8}), 3)));
  EXPECT_NEAR(a.eq(0).to(torch::kFloat).mean().item<double>(), 0.3, 0.06);
  EXPECT_TRUE(at::allclose(a.max(), torch::tensor(1 / 0.7f)));
}

TEST(DropoutTest, NothingInEvaluationOrAtRateZero) {
  const torch::Tensor x = torch::ones({4, 2});
  const auto layout = layout_of({2, 2});
  EXPECT_TRUE(dropout(x, *layout, 0.5, {}, 0).equal(x));
  EXPECT_TRUE(dropout(x, *layout, 0, training_context({1, 2}), 0).equal(x));
  EXPECT_FALSE(stochastic_depth_factor(*layout, 0.5, {}, 0, x).defined());
  EXPECT_EQ(dropout(torch::zeros({0, 2}), *layout_of({0}), 0.5, training_context({1}), 0).numel(), 0);
}

TEST(StochasticDepthTest, AnExampleAsAWholeWhereverItIs) {
  std::vector<int64_t> examples(400), lengths(400, 2), reversed(400);
  for (int64_t i = 0; i < 400; ++i) {
    examples[i] = i;
    reversed[i] = 399 - i;
  }
  const auto layout = layout_of(lengths);
  const torch::Tensor like = torch::zeros({800, 3});
  const torch::Tensor factor = stochastic_depth_factor(*layout, 0.25, training_context(examples), 1, like).view({400, 2});
  EXPECT_TRUE(factor.select(1, 0).equal(factor.select(1, 1)));
  EXPECT_NEAR(factor.eq(0).to(torch::kFloat).mean().item<double>(), 0.25, 0.08);
  EXPECT_TRUE(at::allclose(factor.max(), torch::tensor(1 / 0.75f)));
  EXPECT_TRUE(factor.flip(0).equal(stochastic_depth_factor(*layout, 0.25, training_context(reversed), 1, like).view({400, 2})));
}

TEST(InitializeTest, SeedAndDrawFixEveryBit) {
  const auto drawn = [](uint64_t seed, uint64_t draw) {
    at::Generator generator = parameter_generator(seed, draw);
    torch::Tensor x = torch::zeros({100});
    normal(x, 1, generator);
    return x;
  };
  EXPECT_TRUE(drawn(1, 2).equal(drawn(1, 2)));
  EXPECT_FALSE(drawn(1, 2).equal(drawn(1, 3)));
  EXPECT_FALSE(drawn(1, 2).equal(drawn(2, 2)));
}

TEST(InitializeTest, Distributions) {
  at::Generator generator = parameter_generator(1, 0);
  Linear linear(300, 100);
  linear.bias.data().fill_(1);
  xavier_uniform(linear, generator);
  const double bound = std::sqrt(6.0 / 400);
  EXPECT_LE(linear.weight.abs().max().item<double>(), bound);
  EXPECT_NEAR(linear.weight.std().item<double>(), bound / std::sqrt(3.0), 0.01 * bound);
  EXPECT_EQ(linear.bias.abs().max().item<double>(), 0);
  torch::Tensor x = torch::zeros({40000});
  truncated_normal(x, 0.02, generator);
  EXPECT_LE(x.abs().max().item<double>(), 0.04 + 1e-6);
  EXPECT_NEAR(x.std().item<double>(), 0.02 * 0.8796, 2e-4);
  lecun_normal(x, 25, generator);
  EXPECT_NEAR(x.std().item<double>(), 0.2, 2e-3);
}

}  // namespace
}  // namespace adatape
