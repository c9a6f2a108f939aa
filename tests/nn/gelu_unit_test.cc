#include "adatape/nn/gelu_unit.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <bit>
#include <limits>

#include "adatape/nn/gated_unit.h"

namespace adatape {
namespace {

TEST(GeluUnitTest, EqualsAtenBothWays) {
  at::manual_seed(1);
  for (const std::vector<int64_t>& shape : std::vector<std::vector<int64_t>>{{0, 4}, {1}, {3, 5}, {40, 37}, {300, 64}}) {
    const torch::Tensor x = (at::randn(shape) * 4).requires_grad_(), grad = at::randn(shape);
    const torch::Tensor exact = x.detach().to(at::kDouble).requires_grad_();
    const torch::Tensor got = tanh_gelu(x), expected = at::gelu(exact, "tanh");
    const torch::Tensor slope = torch::autograd::grad({got}, {x}, {grad})[0],
                        expected_slope = torch::autograd::grad({expected}, {exact}, {grad.to(at::kDouble)})[0];
    if (x.numel() == 0) continue;
    EXPECT_LE((got - expected).abs().max().item<double>(), 2e-6);
    EXPECT_LE((slope - expected_slope).abs().max().item<double>(), 5e-6);
  }
}

TEST(GeluUnitTest, FarOutAndNotANumber) {
  const torch::Tensor x = torch::tensor({-1e30F, -50.0F, 0.0F, 50.0F, 1e12F, std::numeric_limits<float>::quiet_NaN()}).requires_grad_();
  const torch::Tensor got = tanh_gelu(x), slope = torch::autograd::grad({got.slice(0, 1, 5).sum()}, {x})[0];
  for (const auto& [place, value] : std::vector<std::pair<int64_t, float>>{{1, 0.0F}, {2, 0.0F}, {3, 50.0F}, {4, 1e12F}})
    EXPECT_FLOAT_EQ(got[place].item<float>(), value) << place;
  EXPECT_TRUE(std::isnan(got[5].item<float>()));
  for (const uint32_t bits : {0x7fffffffU, 0x7fc00001U, 0xffffffffU}) {  // a GPU's, and others
    const torch::Tensor gate = torch::full({1, 2}, std::bit_cast<float>(bits));
    EXPECT_TRUE(std::isnan(gated_unit(gate).item<float>())) << bits;
    gate[0][0] = 1;
    EXPECT_TRUE(std::isnan(gated_unit(gate).item<float>())) << bits;
  }
  for (const auto& [place, value] : std::vector<std::pair<int64_t, float>>{{1, 0.0F}, {2, 0.5F}, {3, 1.0F}, {4, 1.0F}})
    EXPECT_FLOAT_EQ(slope[place].item<float>(), value) << place;
}

TEST(GeluUnitTest, OtherDtypesAndSecondDerivativesAreAtens) {
  at::manual_seed(2);
  const torch::Tensor wide = at::randn({7}, at::kDouble);
  EXPECT_TRUE(at::equal(tanh_gelu(wide), at::gelu(wide, "tanh")));
  const auto curvature = [](const torch::Tensor& x, auto call) {
    const torch::Tensor first = torch::autograd::grad({call(x).sum()}, {x}, {}, std::nullopt, /*create_graph=*/true)[0];
    return torch::autograd::grad({first.sum()}, {x})[0];
  };
  const torch::Tensor x = at::randn({9}).requires_grad_();
  EXPECT_TRUE(at::allclose(curvature(x, tanh_gelu), curvature(x, [](const torch::Tensor& y) { return at::gelu(y, "tanh"); })));
}

}  // namespace
}  // namespace adatape
