// The parts of a block in bfloat16 on rows that lie apart, that hold NaN and that are huge.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>

#include "tests/ops/half_block_cases.h"

namespace adatape::ops {
namespace {

using torch::autograd::variable_list;

using HalfBlockRows = HalfBlock;

// A float32 and a bfloat16 tensor of [rows, 64] through each part.
variable_list through_all_parts(const at::Tensor& x, const at::Tensor& half, const at::Tensor& square, const at::Tensor& row) {
  const int64_t rows = x.size(0);
  const at::Tensor offsets = torch::tensor({int64_t{0}, rows}, at::kLong).to(at::kCUDA),
                   example = at::zeros({rows}, at::kLong).to(at::kCUDA);
  const auto [sum, normed, none] = residual_norm(x, half, row, row, kEpsilon);
  return {normed, half_linear(half, square, row), half_mlp(half, square, row, square, row, true),
          sum,    residual_add(x, half, {}, {}),  segment_sums(x, offsets, example)};
}

TEST_F(HalfBlockRows, RowsMayLieApart) {
  const auto apart = [](at::ScalarType type) { return half_valued({74, 72}).to(at::kCUDA, type).slice(0, 0, 74, 2).narrow(1, 8, 64); };
  const at::Tensor x = apart(at::kFloat), half = apart(at::kBFloat16), square = half_valued({64, 64}, 0.1).to(at::kCUDA),
                   row = half_valued({64}).to(at::kCUDA);
  for (const bool gradient : {false, true}) {
    square.requires_grad_(gradient);
    row.requires_grad_(gradient);
    const variable_list got = through_all_parts(x, half, square, row),
                        expected = through_all_parts(x.contiguous(), half.contiguous(), square, row);
    for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].equal(expected[i])) << i << ", gradient " << gradient;
  }
}

TEST_F(HalfBlockRows, NanStaysInItsRow) {
  const at::Tensor x = half_valued({37, 64}), square = half_valued({64, 64}, 0.1).to(at::kCUDA), row = half_valued({64}).to(at::kCUDA),
                   grad = half_valued({37, 64}).to(at::kCUDA, at::kBFloat16);
  at::Tensor broken = x.clone();
  broken[7][3] = NAN;
  const auto run = [&](const at::Tensor& given) {
    const at::Tensor whole = given.to(at::kCUDA).requires_grad_(), half = given.to(at::kCUDA, at::kBFloat16).requires_grad_();
    variable_list all = through_all_parts(whole, half, square, row);
    all.pop_back();  // a sum over all rows
    const variable_list gradients = torch::autograd::grad({all[0], all[1], all[2]}, {whole, half}, {grad, grad, grad});
    all.insert(all.begin(), gradients.begin(), gradients.end());
    return all;
  };
  const variable_list got = run(broken), clean = run(x);
  for (size_t i = 0; i < got.size(); ++i) {
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 7}, {8, 29}})
      EXPECT_TRUE(got[i].narrow(0, first, count).equal(clean[i].narrow(0, first, count))) << i;
    // Sums of rows have it at its place alone.
    if (i < 5) {
      EXPECT_TRUE(got[i][7].isnan().all().item<bool>()) << i;
    } else {
      EXPECT_EQ(got[i][7].isnan().sum().item<int64_t>(), 1) << i;
    }
  }
}

// Where the square of a number is infinite the derivative is still 0 or 1.
TEST_F(HalfBlockRows, HugeNumbersHaveFiniteGradients) {
  const at::Tensor x = torch::tensor({-1e30f, -1e15f, -20.0f, 20.0f, 1e15f, 1e30f, 20.0f, -20.0f}).view({1, 8});
  const at::Tensor leaf = x.to(at::kCUDA, at::kBFloat16).requires_grad_(), one = at::eye(8).to(at::kCUDA),
                   none = at::zeros({8}).to(at::kCUDA);
  const at::Tensor gradient =
      torch::autograd::grad({half_mlp(leaf, one, none, one, none, true)}, {leaf}, {at::ones_like(leaf)})[0].to(at::kCPU, at::kFloat);
  EXPECT_TRUE(gradient.equal(x.gt(0).to(at::kFloat))) << gradient;
}

}  // namespace
}  // namespace adatape::ops
