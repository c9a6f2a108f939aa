// What picks a faster way must not change the answer: attention from the pack against groups of equal length, feed-forward in parts against
// the whole, a single example's tape as a view against gathered rows.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "adatape/nn/attention.h"
#include "adatape/nn/encoder_block.h"
#include "adatape/nn/linear.h"

namespace adatape {
namespace {

PackLayout layout_of(const std::vector<int64_t>& lengths) { return {lengths, {}, torch::kCPU}; }

// Double runs by groups of equal length, float from the pack.
TEST(AttentionPaths, TheKernelAgreesWithGroupsOfEqualLengthAndCountsTheSameWork) {
  at::manual_seed(1);
  const PackLayout queries = layout_of({3, 0, 7, 3, 20}), keys = layout_of({5, 2, 7, 5, 31});
  for (const bool causal : {false, true}) {
    AttentionOptions options;
    options.causal = causal;
    const at::Tensor query = at::randn({33, 6, 8}), key = at::randn({50, 2, 8}), value = at::randn({50, 2, 8});
    const auto run = [&](at::ScalarType type) {
      std::vector<at::Tensor> inputs;
      for (const at::Tensor& x : {query, key, value}) inputs.push_back(x.to(type, false, true).requires_grad_());
      const int64_t before = matrix_product_flops();
      const at::Tensor out = packed_attention(inputs[0], inputs[1], inputs[2], queries, keys, options);
      const int64_t unseen = causal ? 3 + 21 + 3 + 190 : 0;  // pairs of a query and a key behind it
      EXPECT_EQ(matrix_product_flops() - before, 4 * 8 * 6 * (15 + 49 + 15 + 620 - unseen));
      std::vector<at::Tensor> all{out};
      for (const at::Tensor& gradient : torch::autograd::grad({out.square().sum()}, inputs)) all.push_back(gradient);
      return all;
    };
    const auto got = run(at::kFloat), expected = run(at::kDouble);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::allclose(got[i].to(at::kDouble), expected[i], 1e-4, 1e-5)) << i;
  }
}

TEST(AttentionPaths, SelfAttentionIsAttentionToItself) {
  at::manual_seed(1);
  const PackLayout layout = layout_of({4, 9, 1});
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor qkv = at::randn({14, 3, 2, 8}, type);
    const int64_t before = matrix_product_flops();
    const at::Tensor got = packed_self_attention(qkv, layout);
    EXPECT_EQ(matrix_product_flops() - before, 4 * 16 * (16 + 81 + 1));
    EXPECT_TRUE(at::allclose(got, packed_attention(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), layout, layout), 1e-5, 1e-6));
  }
  EXPECT_EQ(packed_self_attention(at::randn({0, 3, 2, 8}), layout_of({0, 0})).sizes(), at::IntArrayRef({0, 16}));
}

TEST(FeedForwardPaths, PartsWithoutABackwardGiveWhatTheWholeGives) {
  at::Generator generator = parameter_generator(1, 1);
  Mlp mlp(8, 32, Gelu::kTanh);
  mlp.initialize(generator);
  const at::Tensor x = at::randn({at::get_num_threads() * 1024 + 77, 8});
  const int64_t before = matrix_product_flops();
  const at::Tensor expected = mlp.forward(x).detach();  // with a backward: the whole
  const int64_t whole = matrix_product_flops() - before;
  at::NoGradGuard no_grad;
  EXPECT_TRUE(at::allclose(mlp.forward(x), expected, 1e-5, 1e-6));
  EXPECT_EQ(matrix_product_flops() - before, 2 * whole);
}

TEST(FeedForwardPaths, ASingleExamplesTapeIsTheSameAsInABatch) {
  at::manual_seed(1);
  at::Generator generator = parameter_generator(1, 1);
  EncoderBlock block({.width = 16, .heads = 2, .ffn_width = 32, .tape_ffn_width = 24});
  block.initialize(generator);
  const auto pack = [](const at::Tensor& values, const std::vector<int64_t>& input, const std::vector<int64_t>& tape) {
    std::vector<TokenKind> kinds;
    std::vector<int64_t> lengths;
    for (size_t b = 0; b < input.size(); ++b) {
      lengths.push_back(input[b] + tape[b]);
      kinds.insert(kinds.end(), input[b], TokenKind::kInput);
      kinds.insert(kinds.end(), tape[b], TokenKind::kTape);
    }
    return PackedTokens{values, std::make_shared<const PackLayout>(lengths, kinds, torch::kCPU)};
  };
  const at::Tensor x = at::randn({15, 16});
  const PackedTokens both = pack(x, {4, 5}, {2, 4}), second = pack(x.narrow(0, 6, 9), {5}, {4});
  EXPECT_FALSE(both.layout->tape_is_last());
  EXPECT_TRUE(second.layout->tape_is_last());
  const at::Tensor expected = block.forward(both, {}, 0).values.narrow(0, 6, 9);
  EXPECT_TRUE(at::allclose(block.forward(second, {}, 0).values, expected, 1e-5, 1e-6));
}

}  // namespace
}  // namespace adatape
