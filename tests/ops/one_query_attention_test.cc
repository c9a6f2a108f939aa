// Attention of one query with keys and values that are not made, against the projections and softmax written out in float64.
#include "adatape/ops/one_query_attention/one_query_attention.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <limits>

#include "adatape/ops/plain_calls.h"
#include "tests/error_of.h"

namespace adatape::ops {
namespace {

using ::testing::HasSubstr;
using torch::autograd::variable_list;

struct Case {
  int64_t heads, head_dim, width;
  std::vector<int64_t> lengths;
  std::vector<int64_t> offsets() const {
    std::vector<int64_t> result{0};
    for (const int64_t length : lengths) result.push_back(result.back() + length);
    return result;
  }
};

// query, x, key, value, value_bias, and the gradient of the answer
variable_list random_inputs(const Case& c, uint64_t seed) {
  at::manual_seed(seed);
  const int64_t batch = static_cast<int64_t>(c.lengths.size()), out = c.heads * c.head_dim;
  return {at::randn({batch, out}),
          at::randn({c.offsets().back(), c.width}),
          at::randn({out, c.width}) / std::sqrt(c.width),
          at::randn({out, c.width}),
          at::randn({out}),
          at::randn({batch, out})};
}

at::Tensor written_out(const variable_list& in, const Case& c, double scale) {
  variable_list answers{in[0].slice(0, 0, 0)};
  for (int64_t b = 0; b < in[0].size(0); ++b) {
    const at::Tensor x = in[1].slice(0, c.offsets()[b], c.offsets()[b + 1]);
    for (int64_t h = 0; h < c.heads; ++h) {
      const auto of_head = [&](const at::Tensor& w) { return w.slice(0, h * c.head_dim, (h + 1) * c.head_dim); };
      const at::Tensor scores = at::mv(at::matmul(x, of_head(in[2]).t()), of_head(in[0][b])) * scale;
      answers.push_back(at::matmul(scores.softmax(0), at::matmul(x, of_head(in[3]).t()) + of_head(in[4])).unsqueeze(0));
    }
  }
  return at::cat(variable_list(answers.begin() + 1, answers.end())).view({in[0].size(0), -1});
}

at::Tensor ours(const variable_list& in, const Case& c, double scale, int vector_bytes = 0) {
  return one_query_attention(in[0], in[1], {in[2], in[3], in[4]}, c.offsets(), c.heads, scale, vector_bytes);
}

template <class Attention>
variable_list results(Attention attention, const variable_list& inputs, at::ScalarType dtype) {
  variable_list leaves;
  for (size_t i = 0; i < 5; ++i) leaves.push_back(inputs[i].detach().to(dtype).requires_grad_());
  const at::Tensor out = attention(leaves);
  variable_list all = torch::autograd::grad({out}, leaves, {inputs[5].to(dtype)});
  all.insert(all.begin(), out.detach());
  return all;
}

double difference(const at::Tensor& got, const at::Tensor& expected) {
  return (got - expected).abs().max().item<double>() / (1 + expected.abs().max().item<double>());
}

TEST(OneQueryAttentionTest, EqualsKeysAndValuesWrittenOut) {
  const std::vector<Case> cases = {
      {1, 1, 1, {1, 2}},          {4, 8, 32, {17, 17, 17}},   {2, 3, 5, {1, 9, 2, 33}}, {3, 16, 48, {8, 16, 24, 7}},
      {6, 64, 384, {5, 197, 40}}, {2, 4, 20, {70, 1, 1, 15}}, {4, 6, 31, {3}}};
  for (const Case& c : cases) {
    const double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    const variable_list inputs = random_inputs(c, 1);
    const variable_list expected = results([&](const variable_list& in) { return written_out(in, c, scale); }, inputs, at::kDouble);
    for (const int vector_bytes : {32, 64}) {  // 64 runs as 32 where there is no AVX-512
      const variable_list got = results([&](const variable_list& in) { return ours(in, c, scale, vector_bytes); }, inputs, at::kFloat);
      for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(difference(got[i], expected[i]), 2e-5) << i << " of width " << c.width;
      const at::NoGradGuard guard;
      EXPECT_TRUE(ours(inputs, c, scale, vector_bytes).equal(got[0]));
    }
  }
}

TEST(OneQueryAttentionTest, FactorsMayLieAnyhow) {
  const Case c{2, 4, 10, {3, 6}};
  variable_list inputs = random_inputs(c, 2);
  const at::Tensor together = at::cat({inputs[2], inputs[3]}), turned = inputs[0].t().contiguous().t(),
                   apart = at::cat({inputs[1], inputs[1]}, 1);
  const variable_list strided = {turned,
                                 apart.slice(1, 0, 10),
                                 together.slice(0, 0, 8),
                                 together.slice(0, 8, 16),
                                 inputs[4].unsqueeze(1).expand({8, 3}).select(1, 1),
                                 inputs[5].t().contiguous().t()};
  const variable_list expected = results([&](const variable_list& in) { return ours(in, c, 0.5); }, inputs, at::kFloat);
  variable_list leaves(strided.begin(), strided.begin() + 5);
  for (at::Tensor& leaf : leaves) leaf = leaf.detach().requires_grad_();
  const variable_list got = torch::autograd::grad({ours(leaves, c, 0.5)}, leaves, {strided[5]});
  for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(difference(got[i], expected[i + 1]), 1e-6) << i;
}

TEST(OneQueryAttentionTest, GradientsThatNobodyAsksForAreNotMade) {
  const Case c{2, 4, 10, {3, 6}};
  const variable_list inputs = random_inputs(c, 3);
  const variable_list all = results([&](const variable_list& in) { return ours(in, c, 0.5); }, inputs, at::kFloat);
  for (size_t wanted = 0; wanted < 5; ++wanted) {
    variable_list leaves;
    for (size_t i = 0; i < 5; ++i) leaves.push_back(inputs[i].detach().requires_grad_(i == wanted));
    const variable_list got = torch::autograd::grad({ours(leaves, c, 0.5)}, {leaves[wanted]}, {inputs[5]});
    EXPECT_TRUE(got[0].equal(all[wanted + 1])) << wanted;
  }
}

TEST(OneQueryAttentionTest, AnExampleAloneAndAnyNumberOfThreadsGiveTheSameBits) {
  Case c{4, 8, 32, {}};
  for (int64_t b = 0; b < 300; ++b) c.lengths.push_back(1 + b % 37);
  const variable_list inputs = random_inputs(c, 4);
  const int threads = at::get_num_threads();
  variable_list of_threads[2];
  for (int t = 0; t < 2; ++t) {
    at::set_num_threads(1 + 2 * t);
    of_threads[t] = results([&](const variable_list& in) { return ours(in, c, 0.3); }, inputs, at::kFloat);
  }
  at::set_num_threads(threads);
  for (size_t i = 0; i < of_threads[0].size(); ++i) EXPECT_TRUE(of_threads[0][i].equal(of_threads[1][i])) << i;
  const int64_t first = c.offsets()[40];
  const Case alone{4, 8, 32, {c.lengths[40]}};
  const at::NoGradGuard guard;
  EXPECT_TRUE(
      ours({inputs[0].slice(0, 40, 41), inputs[1].slice(0, first, first + c.lengths[40]), inputs[2], inputs[3], inputs[4]}, alone, 0.3)
          .equal(of_threads[0][0].slice(0, 40, 41)));
}

TEST(OneQueryAttentionTest, EqualTokensShareTheirWeight) {
  const Case c{2, 8, 12, {5, 3, 17}};
  variable_list inputs = random_inputs(c, 9);
  for (size_t b = 0; b < c.lengths.size(); ++b) {
    const at::Tensor own = inputs[1].slice(0, c.offsets()[b], c.offsets()[b + 1]);
    own.copy_(own[0].clone().unsqueeze(0).expand(own.sizes()));
  }
  const variable_list expected = results([&](const variable_list& in) { return written_out(in, c, 0.3); }, inputs, at::kDouble);
  for (const int vector_bytes : {32, 64}) {
    const variable_list got = results([&](const variable_list& in) { return ours(in, c, 0.3, vector_bytes); }, inputs, at::kFloat);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_LE(difference(got[i], expected[i]), 2e-5) << i;
  }
}

TEST(OneQueryAttentionTest, NanStaysInItsExampleForwardAndBackward) {
  const Case c{2, 8, 12, {5, 3, 7}};
  variable_list in = random_inputs(c, 8);
  const auto run = [&] { return results([&](const variable_list& leaves) { return ours(leaves, c, 0.3); }, in, at::kFloat); };
  const variable_list without = run();
  in[1] = in[1].clone();
  in[1][6][2] = std::numeric_limits<float>::quiet_NaN();  // an element of the second example
  const variable_list out = run();
  for (const size_t i : {0, 1}) {  // the answer and the query's gradient: a row an example
    EXPECT_TRUE(out[i][1].isnan().all().item<bool>()) << i;
    EXPECT_TRUE(out[i][0].equal(without[i][0]) && out[i][2].equal(without[i][2])) << i;
  }
  EXPECT_TRUE(out[2].slice(0, 5, 8).isnan().all().item<bool>());
  EXPECT_TRUE(out[2].slice(0, 0, 5).equal(without[2].slice(0, 0, 5)) && out[2].slice(0, 8).equal(without[2].slice(0, 8)));
  for (const size_t i : {3, 4}) EXPECT_TRUE(out[i].isnan().all().item<bool>()) << i;  // weights that all examples share
  EXPECT_TRUE(out[5].equal(without[5]));                                              // the bias hangs on the answer's gradient alone
}

TEST(OneQueryAttentionTest, HasSecondDerivatives) {
  const Case c{2, 3, 5, {4, 1, 3}};
  const variable_list inputs = random_inputs(c, 5);
  const auto second = [&](auto attention, at::ScalarType dtype) {
    variable_list leaves;
    for (size_t i = 0; i < 5; ++i) leaves.push_back(inputs[i].detach().to(dtype).requires_grad_());
    const variable_list first = torch::autograd::grad({attention(leaves)}, leaves, {inputs[5].to(dtype)}, true, /*create_graph=*/true);
    at::Tensor sum = first[0].square().sum();
    for (size_t i = 1; i < 5; ++i) sum = sum + first[i].square().sum();
    return torch::autograd::grad({sum}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
  };
  const variable_list got = second([&](const variable_list&in) { return ours(in, c, 0.5); }, at::kFloat),
                      expected = second([&](const variable_list&in) { return written_out(in, c, 0.5); }, at::kDouble);
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].defined(), expected[i].defined()) << i;
    if (got[i].defined()) {
      EXPECT_LE(difference(got[i], expected[i]), 1e-4) << i;
    }
  }
}

TEST(OneQueryAttentionTest, NoExamplesAndBadInput) {
  const Case none{2, 4, 10, {}};
  const variable_list empty = random_inputs(none, 6);
  const variable_list got = results([&](const variable_list& in) { return ours(in, none, 0.5); }, empty, at::kFloat);
  EXPECT_EQ(got[0].sizes(), (std::vector<int64_t>{0, 8}));
  EXPECT_EQ(got[3].abs().sum().item<double>() + got[4].abs().sum().item<double>() + got[5].abs().sum().item<double>(), 0);

  const Case c{2, 4, 10, {3, 6}};
  const variable_list in = random_inputs(c, 7);
  const auto error = [&](const at::Tensor& query, const KeyValueWeights& weights, const std::vector<int64_t>& offsets, int64_t heads) {
    return error_of([&] { one_query_attention(query, in[1], weights, offsets, heads, 0.5); });
  };
  const KeyValueWeights good{in[2], in[3], in[4]};
  EXPECT_THAT(error(in[0], good, {0, 3, 9}, 3), HasSubstr("expected a query [B, heads x d] for 3 heads"));
  EXPECT_THAT(error(in[0], good, {0, 0, 9}, 2), HasSubstr("expected 3 offsets from 0 to 9, each above the one before, got 0 0 9"));
  EXPECT_THAT(error(in[0], good, {0, 9}, 2), HasSubstr("expected 3 offsets"));
  EXPECT_THAT(error(in[0], {in[2], in[3].slice(0, 0, 4), in[4]}, {0, 3, 9}, 2), HasSubstr("expected key and value weights [8, 10]"));
  EXPECT_THAT(error(in[0].to(at::kDouble), good, {0, 3, 9}, 2), HasSubstr("expected query of float32 on the CPU"));
  EXPECT_TRUE(has_one_query_attention(in[0], in[1]));
  EXPECT_FALSE(has_one_query_attention(in[0].to(at::kDouble), in[1]));
  const PlainCalls plain_ones;
  EXPECT_FALSE(has_one_query_attention(in[0], in[1]));
}

}  // namespace
}  // namespace adatape::ops
