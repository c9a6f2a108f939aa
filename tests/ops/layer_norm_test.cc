// LayerNorm of rows against ATen's in float64: values, gradients, second derivatives, odd widths, strides, bits.
#include "adatape/ops/layer_norm/layer_norm.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <limits>
#include <optional>

#include "adatape/ops/plain_calls.h"
#include "tests/error_of.h"

namespace adatape::ops {
namespace {

using torch::autograd::variable_list;

constexpr double kEpsilon = 1e-6;

at::Tensor plain(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon) {
  return at::layer_norm(x, {weight.size(0)}, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt, epsilon);
}

at::Tensor wide_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon) {
  return layer_norm(x, weight, bias, epsilon);
}

// The answer, and the gradients of x, weight and bias (where there is one).
template <class Norm>
variable_list results(Norm norm, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, const at::Tensor& grad,
                      at::ScalarType dtype = at::kFloat) {
  variable_list inputs;
  for (const at::Tensor& tensor : {x, weight, bias}) {
    if (tensor.defined()) inputs.push_back(tensor.detach().to(dtype).requires_grad_());
  }
  const at::Tensor out = norm(inputs[0], inputs[1], bias.defined() ? inputs[2] : at::Tensor(), kEpsilon);
  variable_list all = torch::autograd::grad({out}, inputs, {grad.to(dtype)});
  all.insert(all.begin(), out.detach());
  return all;
}

TEST(LayerNormTest, EqualsAtenForAllSizes) {
  at::manual_seed(1);
  for (const int64_t dim : {1, 2, 7, 8, 9, 16, 31, 32, 33, 96, 384, 1025}) {
    for (const int64_t rows : {0, 1, 3, 300}) {
      for (const bool with_bias : {true, false}) {
        const at::Tensor x = at::randn({rows, dim}) * 3 + 5, weight = at::randn({dim}), grad = at::randn({rows, dim}),
                         bias = with_bias ? at::randn({dim}) : at::Tensor();
        const variable_list expected = results(plain, x, weight, bias, grad, at::kDouble);
        for (const int vector_bytes : {32, 64}) {  // 64 runs as 32 where there is no AVX-512
          const auto norm = [&](const at::Tensor& a, const at::Tensor& w, const at::Tensor& b, double e) {
            return layer_norm(a, w, b, e, vector_bytes);
          };
          const variable_list got = results(norm, x, weight, bias, grad);
          ASSERT_EQ(got.size(), expected.size());
          for (size_t i = 0; i < got.size(); ++i) {
            if (expected[i].numel() == 0) continue;
            // The numbers of very short rows can be nearly equal: what rounding leaves is then divided by a tiny deviation.
            const double close = dim <= 2 ? 1e-3 : 3e-6,
                         size = 1 + std::sqrt(static_cast<double>(rows)) + expected[i].abs().max().item<double>();
            EXPECT_LE((got[i] - expected[i]).abs().max().item<double>(), close * size) << i << " of [" << rows << ", " << dim << "]";
          }
          const at::NoGradGuard guard;
          EXPECT_TRUE(norm(x, weight, bias, kEpsilon).equal(got[0]));
        }
      }
    }
  }
}

TEST(LayerNormTest, AcceptsAnyShapeAndStrides) {
  at::manual_seed(2);
  const at::Tensor weight = at::randn({6}), bias = at::randn({6});
  for (const at::Tensor& x : {at::randn({6}), at::randn({2, 3, 6}), at::randn({6, 5}).t(), at::randn({4, 12}).slice(1, 0, 12, 2),
                              at::randn({1, 6}).expand({5, 6})}) {
    const at::Tensor grad = at::randn({1}).expand(x.sizes());
    const variable_list got = results(wide_norm, x, weight, bias, grad), expected = results(plain, x, weight, bias, grad, at::kDouble);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(at::allclose(got[i].to(at::kDouble), expected[i], 1e-5, 1e-5)) << x.sizes() << i;
  }
}

TEST(LayerNormTest, GradientsOfGradientsEqualAtens) {
  at::manual_seed(3);
  const auto second = [](auto norm, const variable_list& given, at::ScalarType dtype) {
    variable_list in;
    for (const at::Tensor& tensor : given) in.push_back(tensor.detach().to(dtype).requires_grad_());
    const at::Tensor out = norm(in[0], in[1], in[2], kEpsilon);
    const variable_list first = torch::autograd::grad({out}, {in[0], in[1], in[2]}, {in[3]}, true, true);
    at::Tensor sum = first[0].square().sum() + first[1].square().sum() + first[2].square().sum();
    return torch::autograd::grad({sum}, in, {}, false, false, true);
  };
  const variable_list given = {at::randn({4, 11}), at::randn({11}), at::randn({11}), at::randn({4, 11})};
  const variable_list got = second(wide_norm, given, at::kFloat), expected = second(plain, given, at::kDouble);
  for (size_t i : {0, 1, 3}) EXPECT_TRUE(at::allclose(got[i].to(at::kDouble), expected[i], 1e-4, 1e-4)) << i;
}

TEST(LayerNormTest, OnlyWhatIsWanted) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({5, 20}), weight = at::randn({20}).requires_grad_(), bias = at::randn({20});
  const variable_list grads = torch::autograd::grad({layer_norm(x, weight, bias, kEpsilon).sum()}, {weight});
  EXPECT_TRUE(at::allclose(grads[0], at::layer_norm(x, {20}, {}, {}, kEpsilon).sum(0), 1e-5, 1e-5));
  EXPECT_FALSE(layer_norm(x, weight.detach(), bias, kEpsilon).requires_grad());
}

// Thousands of rows, so that parts of them are added up by several threads.
TEST(LayerNormTest, BitsHangOnTheRowAloneAndNotOnThreads) {
  at::manual_seed(5);
  const int64_t threads = at::get_num_threads();
  for (const int64_t dim : {8, 32, 100}) {
    const at::Tensor x = at::randn({9000, dim}), weight = at::randn({dim}), bias = at::randn({dim}), grad = at::randn({9000, dim});
    at::set_num_threads(1);
    const variable_list one = results(wide_norm, x, weight, bias, grad);
    at::set_num_threads(4);
    const variable_list four = results(wide_norm, x, weight, bias, grad);
    at::set_num_threads(static_cast<int>(threads));
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(one[i].equal(four[i])) << i;
    const at::NoGradGuard guard;
    EXPECT_TRUE(layer_norm(x.narrow(0, 77, 1), weight, bias, kEpsilon).equal(one[0].narrow(0, 77, 1)));
  }
}

TEST(LayerNormTest, LargeMeansAndNan) {
  at::manual_seed(6);
  const at::Tensor weight = at::ones({40}), bias = at::zeros({40}), x = at::randn({3, 40}) + 1e4;
  const at::Tensor expected = plain(x.to(at::kDouble), weight.to(at::kDouble), bias.to(at::kDouble), kEpsilon);
  EXPECT_LE((layer_norm(x, weight, bias, kEpsilon) - expected).abs().max().item<double>(), 2e-3);  // float32 steps at 1e4 are 1e-3
  EXPECT_TRUE(layer_norm(at::full({2, 40}, 3.0), weight, bias, kEpsilon).equal(at::zeros({2, 40})));
  at::Tensor broken = at::randn({3, 40});
  broken[1][39] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor out = layer_norm(broken, weight, bias, kEpsilon);
  EXPECT_TRUE(out[1].isnan().all().item<bool>());
  EXPECT_TRUE(out[0].isfinite().all().item<bool>() && out[2].isfinite().all().item<bool>());
}

TEST(LayerNormTest, NanStaysInItsRowOfTheGradient) {
  at::manual_seed(7);
  const at::Tensor x = at::randn({3, 40}), weight = at::randn({40}), bias = at::randn({40}), grad = at::randn({3, 40});
  at::Tensor broken = x.clone();
  broken[1][39] = std::numeric_limits<float>::quiet_NaN();
  const variable_list got = results(wide_norm, broken, weight, bias, grad), clean = results(wide_norm, x, weight, bias, grad);
  EXPECT_TRUE(got[1][1].isnan().all().item<bool>());
  EXPECT_TRUE(got[1][0].equal(clean[1][0]) && got[1][2].equal(clean[1][2]));
  EXPECT_TRUE(got[2].isnan().all().item<bool>());
  EXPECT_TRUE(got[3].equal(clean[3]));  // the bias hangs on the gradient alone
}

TEST(LayerNormTest, SaysWhatIsWrong) {
  const at::Tensor x = at::randn({3, 4}), weight = at::randn({4});
  EXPECT_THAT(error_of([&] { layer_norm(x, at::randn({5}), {}, kEpsilon); }), testing::HasSubstr("expected x [..., 5], got [3, 4]"));
  EXPECT_THAT(error_of([&] { layer_norm(x, weight, at::randn({3}), kEpsilon); }), testing::HasSubstr("bias [4], got [3]"));
  EXPECT_THAT(error_of([&] { layer_norm(x.to(at::kDouble), weight, {}, kEpsilon); }), testing::HasSubstr("expected x of float32"));
  EXPECT_TRUE(has_layer_norm(x, weight));
  EXPECT_FALSE(has_layer_norm(x.to(at::kDouble), weight));
  const PlainCalls plain_calls;
  EXPECT_FALSE(has_layer_norm(x, weight));
}

}  // namespace
}  // namespace adatape::ops
