// The products of training against plain ATen calls: values, the three gradients, second derivatives, odd sizes and strides.
#include "adatape/ops/dense_linear/dense_linear.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <limits>

#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/plain_calls.h"
#include "tests/error_of.h"

namespace adatape::ops {
namespace {

double difference(const at::Tensor& a, const at::Tensor& b) { return a.numel() == 0 ? 0 : (a - b).abs().max().item<double>(); }

struct Result {
  at::Tensor out;
  std::vector<at::Tensor> gradients;
};

template <class Linear>
Result run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& grad, Linear call) {
  const at::Tensor a = x.detach().requires_grad_(), b = weight.detach().requires_grad_(), c = bias.detach().requires_grad_();
  Result result{call(a, b, c), {}};
  result.gradients = torch::autograd::grad({result.out}, {a, b, c}, {grad});
  return result;
}

at::Tensor ours(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) { return dense_linear(x, weight, bias); }
at::Tensor plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) { return at::linear(x, weight, bias); }

void expect_equal(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& grad) {
  const Result got = run(x, weight, bias, grad, ours);
  const Result expected = run(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble), grad.to(at::kDouble), plain);
  const double size = 1e-5 * std::sqrt(static_cast<double>(x.size(0) + weight.numel()));
  EXPECT_LE(difference(got.out, expected.out), size) << x.sizes() << weight.sizes();
  for (size_t i = 0; i < 3; ++i)
    EXPECT_LE(difference(got.gradients[i], expected.gradients[i]), size) << x.sizes() << weight.sizes() << " gradient " << i;
}

TEST(DenseLinearTest, EqualsPlainCallsForAllSizes) {
  at::manual_seed(1);
  for (const int64_t rows : {0, 1, 3, 13, 14, 15, 97, 99, 300}) {
    for (const auto& [in, out] :
         std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {32, 2}, {9, 5}, {7, 10}, {16, 32}, {33, 50}, {64, 17}, {160, 96}, {150, 43}}) {
      expect_equal(at::randn({rows, in}), at::randn({out, in}), at::randn({out}), at::randn({rows, out}));
    }
  }
  for (const int64_t rows : {1030, 1100})  // a weight's gradient by columns, its last steps few and not so few
    expect_equal(at::randn({rows, 150}), at::randn({43, 150}), at::randn({43}), at::randn({rows, 43}));
  expect_equal(at::randn({2500, 8}), at::randn({40, 8}), at::randn({40}), at::randn({2500, 40}));  // more steps than are summed at once
}

TEST(DenseLinearTest, TakesStridesAndNoBias) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({24, 70}).t(), weight = at::randn({48, 24}).narrow(0, 8, 32), grad = at::randn({32, 70}).t();
  expect_equal(x, weight, at::randn({64}).slice(0, 0, 64, 2), grad);
  expect_equal(x, weight, at::randn({32}), at::randn({1}).expand({70, 32}));  // a sum's gradient has no strides
  expect_equal(at::randn({32}).expand({70, 32}), at::randn({48, 32}), at::randn({48}), at::randn({70, 48}));  // one row for all
  const at::Tensor trained = weight.detach().requires_grad_();
  EXPECT_LE(difference(dense_linear(x, trained, {}), at::linear(x, weight)), 1e-4);
  EXPECT_LE(difference(torch::autograd::grad({dense_linear(x, trained, {})}, {trained}, {grad})[0], grad.t().mm(x)), 1e-4);
}

TEST(DenseLinearTest, ThreadsDoNotChangeABit) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({700, 96}), weight = at::randn({288, 96}), bias = at::randn({288}), grad = at::randn({700, 288});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Result one = run(x, weight, bias, grad, ours);
  at::set_num_threads(3);
  const Result three = run(x, weight, bias, grad, ours);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.out, three.out));
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(one.gradients[i], three.gradients[i])) << i;
}

TEST(DenseLinearTest, GradientsCanBeDifferentiatedAgain) {
  at::manual_seed(4);
  const auto penalty = [](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, auto call) {
    const at::Tensor a = x.detach().requires_grad_(), b = weight.detach().requires_grad_();
    const at::Tensor first = torch::autograd::grad({call(a, b, bias).square().sum()}, {a}, {}, std::nullopt, /*create_graph=*/true)[0];
    return torch::autograd::grad({first.square().sum()}, {b})[0];
  };
  const at::Tensor x = at::randn({60, 12}), weight = at::randn({16, 12}), bias = at::randn({16});
  const at::Tensor expected = penalty(x, weight, bias, plain);
  EXPECT_LE(difference(penalty(x, weight, bias, ours), expected), 1e-5 * expected.abs().max().item<double>());
}

TEST(DenseLinearTest, NotANumberStaysInItsRow) {
  at::Tensor x = at::ones({50, 16});
  x[7][3] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor out = dense_linear(x, at::ones({20, 16}), {});
  EXPECT_TRUE(out[7].isnan().all().item<bool>());
  EXPECT_EQ(out.isnan().sum().item<int64_t>(), 20);
}

TEST(DenseLinearTest, NotANumberInAGradientStaysInItsRowAndItsColumn) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({50, 16}), weight = at::randn({20, 16}), bias = at::randn({20}), grad = at::randn({50, 20});
  at::Tensor broken = grad.clone();
  broken[7][3] = std::numeric_limits<float>::quiet_NaN();
  const Result got = run(x, weight, bias, broken, ours), clean = run(x, weight, bias, grad, ours);
  for (const auto& [i, row, rows] : {std::tuple<size_t, int64_t, int64_t>{0, 7, 50}, {1, 3, 20}, {2, 3, 20}}) {
    EXPECT_TRUE(got.gradients[i][row].isnan().all().item<bool>()) << i;
    EXPECT_TRUE(got.gradients[i].narrow(0, 0, row).equal(clean.gradients[i].narrow(0, 0, row))) << i;
    EXPECT_TRUE(got.gradients[i].narrow(0, row + 1, rows - row - 1).equal(clean.gradients[i].narrow(0, row + 1, rows - row - 1))) << i;
  }
}

TEST(DenseLinearTest, IsTakenWhereItPays) {
  const at::Tensor weight = at::zeros({16, 16});
  if (!has_dense_linear(at::zeros({48, 16}), weight)) GTEST_SKIP() << "this processor is Intel's, whose MKL serves";
  EXPECT_FALSE(has_dense_linear(at::zeros({47, 16}), weight));
  EXPECT_FALSE(has_dense_linear(at::zeros({4096, 16}), at::zeros({7, 16})));
  EXPECT_TRUE(has_dense_linear(at::zeros({256, 32}), at::zeros({2, 32})));  // a small classifier
  EXPECT_FALSE(has_dense_linear(at::zeros({48, 16}, at::kDouble), weight.to(at::kDouble)));
  {
    const PlainCalls guard;
    EXPECT_FALSE(has_dense_linear(at::zeros({48, 16}), weight));
  }
  EXPECT_TRUE(has_dense_linear(at::zeros({48, 16}), weight));
}

TEST(DenseLinearTest, ShapesThatDoNotFitAreTold) {
  EXPECT_THAT(error_of([] {
                dense_linear(at::zeros({2, 3}), at::zeros({4, 5}), {});
              }),
              ::testing::HasSubstr("expected x [rows, in] and weight [out, in], got [2, 3] and [4, 5]"));
  EXPECT_THAT(error_of([] {
                dense_linear(at::zeros({2, 3}), at::zeros({4, 3}), at::zeros({3}));
              }),
              ::testing::HasSubstr("expected bias [4], got [3]"));
  EXPECT_THAT(error_of([] {
                dense_linear(at::zeros({2, 3}, at::kDouble), at::zeros({4, 3}), {});
              }),
              ::testing::HasSubstr("expected x of float32 on the CPU"));
}

}  // namespace
}  // namespace adatape::ops
