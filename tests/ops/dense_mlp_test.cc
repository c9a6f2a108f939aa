// Feed-forward networks in one pass against plain calls: values, gradients, second derivatives, groups, odd sizes and strides.
#include "adatape/ops/dense_mlp/dense_mlp.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <functional>
#include <limits>

#include "adatape/ops/plain_calls.h"
#include "tests/error_of.h"

namespace adatape::ops {
namespace {

using torch::autograd::variable_list;

constexpr auto kGelu = MlpActivation::kTanhGelu, kGated = MlpActivation::kGated;

at::Tensor plain(const at::Tensor& x, const std::vector<int64_t>& offsets, const MlpWeights& w, MlpActivation activation) {
  const auto network = [&](const at::Tensor& rows, const MlpWeights& own) {
    at::Tensor h = rows.matmul(own.expand.t());
    if (own.expand_bias.defined()) h = h + own.expand_bias;
    const at::Tensor y = (activation == kGated ? at::glu(h, 1) : at::gelu(h, "tanh")).matmul(own.contract.t());
    return own.contract_bias.defined() ? y + own.contract_bias : y;
  };
  if (offsets.empty()) return network(x, w);
  variable_list parts;
  for (int64_t g = 0; g + 1 < static_cast<int64_t>(offsets.size()); ++g) {
    const auto of = [&](const at::Tensor& tensor) { return tensor.defined() ? tensor[g] : tensor; };
    parts.push_back(network(x.slice(0, offsets[static_cast<size_t>(g)], offsets[static_cast<size_t>(g) + 1]),
                            {of(w.expand), of(w.expand_bias), of(w.contract), of(w.contract_bias)}));
  }
  return at::cat(parts);
}

struct Case {
  at::Tensor x;
  std::vector<int64_t> offsets;
  MlpWeights weights;
  MlpActivation activation;
  at::Tensor grad;
};

Case random_case(const std::vector<int64_t>& offsets, int64_t rows, int64_t dim, int64_t inner, MlpActivation activation) {
  std::vector<int64_t> first{activation == kGated ? 2 * inner : inner, dim}, second{dim, inner};
  if (!offsets.empty()) {
    for (std::vector<int64_t>* sizes : {&first, &second}) sizes->insert(sizes->begin(), static_cast<int64_t>(offsets.size()) - 1);
  }
  const auto without_last = [](std::vector<int64_t> sizes) {
    sizes.pop_back();
    return sizes;
  };
  const double scale = 1 / std::sqrt(static_cast<double>(dim + inner));
  return {at::randn({rows, dim}),
          offsets,
          {at::randn(first) * scale, at::randn(without_last(first)), at::randn(second) * scale, at::randn(without_last(second))},
          activation,
          at::randn({rows, dim})};
}

// The answer and the gradients of x and of the weights that are defined.
template <class Network>
variable_list results(const Case& c, Network network, at::ScalarType dtype = at::kFloat) {
  variable_list inputs;
  const auto leaf = [&](const at::Tensor& tensor) {
    if (tensor.defined()) inputs.push_back(tensor.detach().to(dtype).requires_grad_());
    return tensor.defined() ? inputs.back() : tensor;
  };
  const at::Tensor x = leaf(c.x);
  const at::Tensor expand = leaf(c.weights.expand), expand_bias = leaf(c.weights.expand_bias), contract = leaf(c.weights.contract),
                   contract_bias = leaf(c.weights.contract_bias);
  const at::Tensor out = network(x, c.offsets, MlpWeights{expand, expand_bias, contract, contract_bias}, c.activation);
  variable_list all = torch::autograd::grad({out}, inputs, {c.grad.to(dtype)});
  all.insert(all.begin(), out.detach());
  return all;
}

void expect_equal(const Case& c) {
  const variable_list got = results(c, dense_mlp), expected = results(c, plain, at::kDouble);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (expected[i].numel() == 0) continue;
    EXPECT_LE((got[i] - expected[i]).abs().max().item<double>(), 2e-6 * (10 + expected[i].abs().max().item<double>()))
        << i << " of " << c.x.sizes() << c.weights.expand.sizes();
  }
  const at::NoGradGuard guard;
  EXPECT_TRUE(dense_mlp(c.x, c.offsets, c.weights, c.activation).equal(got[0]));
}

TEST(DenseMlpTest, EqualsPlainCallsForAllSizes) {
  at::manual_seed(1);
  for (const MlpActivation activation : {kGelu, kGated}) {
    for (const int64_t rows : {0, 1, 13, 50, 1000}) {
      for (const auto& [dim, inner] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 19}, {32, 64}, {64, 17}, {160, 96}})
        expect_equal(random_case({}, rows, dim, inner, activation));
    }
    expect_equal(random_case({}, 60, 24, 1100, activation));  // more steps than are summed at once
    expect_equal(random_case({}, 60, 1100, 24, activation));
  }
}

TEST(DenseMlpTest, EqualsEachGroupAlone) {
  at::manual_seed(2);
  for (const MlpActivation activation : {kGelu, kGated}) {
    for (const auto& offsets :
         std::vector<std::vector<int64_t>>{{0, 0}, {0, 60}, {0, 1, 1, 50}, {0, 0, 400, 401, 900, 900, 901, 1500, 1500}}) {
      expect_equal(random_case(offsets, offsets.back(), 33, 40, activation));
      expect_equal(random_case(offsets, offsets.back(), 32, 64, activation));  // weights that are read where they lie
    }
  }
}

TEST(DenseMlpTest, MoreWeightsThanAreLaidOutAtOnce) {
  at::manual_seed(8);  // 512 x 4096 twice: four groups of eight fit
  expect_equal(random_case({0, 3, 5, 5, 9, 10, 11, 12, 13}, 13, 512, 4096, kGelu));
}

TEST(DenseMlpTest, TakesStridesAndMissingBiases) {
  at::manual_seed(3);
  for (const MlpActivation activation : {kGelu, kGated}) {
    Case c = random_case({}, 70, 24, 32, activation);
    c.x = at::randn({24, 70}).t();
    c.grad = at::randn({1}).expand({70, 24});  // a sum's gradient has no strides
    c.weights.contract = at::randn({48, 32}).narrow(0, 8, 24) / 8;
    expect_equal(c);
    c.weights.expand_bias.reset();
    expect_equal(c);
    c.weights.contract_bias.reset();
    expect_equal(c);
    c.weights.expand_bias = at::randn({2 * c.weights.expand.size(0)}).slice(0, 0, std::nullopt, 2);
    expect_equal(c);
  }
}

TEST(DenseMlpTest, OfRowsEqualsACopyOfThem) {
  at::manual_seed(7);
  Case c = random_case({0, 3, 3, 100, 700}, 700, 33, 40, kGelu);
  std::vector<int64_t> rows(700);
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i * i % 90);
  for (const at::Tensor& x : {at::randn({90, 33}), at::randn({33, 90}).t()}) {
    const at::Tensor copied = x.index_select(0, at::tensor(rows));
    EXPECT_TRUE(dense_mlp_of_rows(x, rows, c.offsets, c.weights, kGelu).equal(dense_mlp(copied, c.offsets, c.weights, kGelu)));
  }
}

TEST(DenseMlpTest, OnlyWhatIsAskedForIsMade) {
  at::manual_seed(4);
  const Case c = random_case({}, 64, 16, 24, kGelu);
  MlpWeights weights = c.weights;
  weights.expand_bias = weights.expand_bias.clone().requires_grad_();
  const at::Tensor got = torch::autograd::grad({dense_mlp(c.x, {}, weights, kGelu)}, {weights.expand_bias}, {c.grad})[0];
  EXPECT_LE((got - results(c, plain)[3]).abs().max().item<double>(), 1e-4);
}

TEST(DenseMlpTest, ThreadsDoNotChangeABit) {
  at::manual_seed(5);
  for (const Case& c :
       {random_case({}, 1500, 96, 160, kGated), random_case({0, 10, 900, 900, 1500, 1500, 1500, 1500, 1500}, 1500, 96, 160, kGelu)}) {
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    const variable_list one = results(c, dense_mlp);
    at::set_num_threads(3);
    const variable_list three = results(c, dense_mlp);
    at::set_num_threads(threads);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i])) << i;
  }
}

TEST(DenseMlpTest, GradientsCanBeDifferentiatedAgain) {
  at::manual_seed(6);
  for (const auto& offsets : std::vector<std::vector<int64_t>>{{}, {0, 20, 20, 60}}) {
    for (const MlpActivation activation : {kGelu, kGated}) {
      const Case c = random_case(offsets, 60, 12, 16, activation);
      const auto penalty = [&](auto network) {
        const at::Tensor x = c.x.detach().requires_grad_(), expand = c.weights.expand.detach().requires_grad_(),
                         contract = c.weights.contract.detach().requires_grad_();
        const variable_list inputs{x, expand, contract};
        const at::Tensor out =
            network(x, c.offsets, MlpWeights{expand, c.weights.expand_bias, contract, c.weights.contract_bias}, c.activation);
        const variable_list once = torch::autograd::grad({out.square().sum()}, inputs, {}, std::nullopt, /*create_graph=*/true);
        return torch::autograd::grad({once[0].square().sum() + once[1].square().sum() + once[2].square().sum()}, inputs);
      };
      const variable_list got = penalty(dense_mlp), expected = penalty(plain);
      for (size_t i = 0; i < got.size(); ++i)
        EXPECT_LE((got[i] - expected[i]).abs().max().item<double>(), 1e-5 * expected[i].abs().max().item<double>()) << i;
    }
  }
}

TEST(DenseMlpTest, OneNetworkTwiceHasItsOwnSecondDerivative) {
  at::manual_seed(9);
  const Case c = random_case({}, 60, 12, 16, kGelu);
  const auto penalty = [&](auto network) {
    const at::Tensor expand = c.weights.expand.detach().requires_grad_(), contract = c.weights.contract.detach().requires_grad_();
    const MlpWeights weights{expand, c.weights.expand_bias, contract, c.weights.contract_bias};
    const at::Tensor out = network(network(c.x, c.offsets, weights, kGelu), c.offsets, weights, kGelu);
    const variable_list once = torch::autograd::grad({out.square().sum()}, {expand, contract}, {}, std::nullopt, /*create_graph=*/true);
    variable_list all = torch::autograd::grad({once[0].square().sum() + once[1].square().sum()}, {expand, contract});
    all.insert(all.end(), once.begin(), once.end());
    return all;
  };
  const variable_list got = penalty(dense_mlp), expected = penalty(plain);
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_LE((got[i] - expected[i]).abs().max().item<double>(), 1e-5 * expected[i].abs().max().item<double>()) << i;
}

TEST(DenseMlpTest, NotANumberStaysInItsRow) {
  Case c = random_case({}, 50, 16, 24, kGated);
  c.x[7][3] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor out = dense_mlp(c.x, {}, c.weights, kGated);
  EXPECT_TRUE(out[7].isnan().all().item<bool>());
  EXPECT_EQ(out.isnan().sum().item<int64_t>(), 16);
}

TEST(DenseMlpTest, NotANumberStaysInItsRowOfTheGradient) {
  at::manual_seed(10);
  for (const MlpActivation activation : {kGelu, kGated}) {
    Case c = random_case({}, 50, 16, 24, activation);
    const variable_list clean = results(c, dense_mlp);
    c.x[7][3] = std::numeric_limits<float>::quiet_NaN();
    const variable_list got = results(c, dense_mlp);
    EXPECT_TRUE(got[1][7].isnan().all().item<bool>());
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 7}, {8, 42}})
      EXPECT_TRUE(got[1].narrow(0, first, count).equal(clean[1].narrow(0, first, count)));
    for (const size_t i : {2, 3, 4}) EXPECT_TRUE(got[i].isnan().all().item<bool>()) << i;  // weights that all rows share
    EXPECT_TRUE(got[5].equal(clean[5]));
  }
}

// No gradient is dropped in silence.
TEST(DenseMlpTest, OfRowsRefusesWhatAsksForAGradient) {
  const Case c = random_case({}, 5, 4, 6, kGelu);
  const at::Tensor leaf = c.x.clone().requires_grad_();
  MlpWeights weights = c.weights;
  weights.contract_bias = weights.contract_bias.clone().requires_grad_();
  const auto refused = ::testing::HasSubstr("dense_mlp: expected rows and weights of which no gradient is asked");
  EXPECT_THAT(error_of([&] { dense_mlp_of_rows(leaf, {0, 4}, {}, c.weights, kGelu); }), refused);
  EXPECT_THAT(error_of([&] { dense_mlp_of_rows(c.x, {0, 4}, {}, weights, kGelu); }), refused);
  const at::NoGradGuard no_grad;
  EXPECT_EQ(error_of([&] { dense_mlp_of_rows(leaf, {0, 4}, {}, weights, kGelu); }), "no error");
}

// Where the square of a number is infinite the derivative is still 0 or 1.
TEST(DenseMlpTest, HugeNumbersHaveFiniteGradients) {
  at::Tensor x = at::tensor({-1e30f, -1e15f, -20.0f, 20.0f, 1e15f, 1e30f}).view({6, 1}).requires_grad_();
  const MlpWeights w{at::ones({1, 1}), {}, at::ones({1, 1}), {}};
  const at::Tensor gradient = torch::autograd::grad({dense_mlp(x, {}, w, kGelu)}, {x}, {at::ones({6, 1})})[0];
  EXPECT_TRUE(gradient.view(-1).equal(at::tensor({0.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f}))) << gradient;
}

TEST(DenseMlpTest, ShapesThatDoNotFitAreTold) {
  const Case one = random_case({}, 5, 4, 6, kGelu), several = random_case({0, 2, 5}, 5, 4, 6, kGelu);
  EXPECT_THAT(error_of([&] { dense_mlp(one.x, {}, one.weights, kGated); }),
              ::testing::HasSubstr("expected expand [12, 4] and contract [4, 6]"));
  EXPECT_THAT(error_of([&] { dense_mlp(one.x, {0, 5}, one.weights, kGelu); }), ::testing::HasSubstr("weights of 3 dimensions"));
  EXPECT_THAT(error_of([&] {
                dense_mlp(several.x, {0, 3, 2, 5}, several.weights, kGelu);
              }),
              ::testing::HasSubstr("expected offsets from 0 to 5 in order, got 0 3 2 5"));
  EXPECT_THAT(error_of([&] {
                dense_mlp_of_rows(several.x, {0, 4, 5, 1, 1}, {0, 2, 5}, several.weights, kGelu);
              }),
              ::testing::HasSubstr("expected rows within 0 .. 4, got 0 4 5 1 1"));
  EXPECT_THAT(error_of([&] { dense_mlp(several.x, {0, 5}, several.weights, kGelu); }), ::testing::HasSubstr("expected expand [1, 6, 4]"));
  EXPECT_THAT(error_of([&] { dense_mlp(one.x.to(at::kDouble), {}, one.weights, kGelu); }), ::testing::HasSubstr("expected x of float32"));
}

TEST(DenseMlpTest, IsTakenWhereItPays) {
  const Case c = random_case({}, 48, 16, 24, kGelu);
  if (!has_dense_mlp(c.x, c.weights)) GTEST_SKIP() << "this processor is Intel's, whose MKL serves";
  EXPECT_FALSE(has_dense_mlp(c.x.narrow(0, 0, 47), c.weights));
  const PlainCalls guard;
  EXPECT_FALSE(has_dense_mlp(c.x, c.weights));
}

}  // namespace
}  // namespace adatape::ops
