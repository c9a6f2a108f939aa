// The packed products of inference against plain ATen calls, on every size of tile, both vector widths and both kinds of factors.
#include "adatape/ops/packed_linear/packed_linear.h"

#include <ATen/Parallel.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/glu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <limits>

#include "adatape/core/check.h"

namespace adatape::ops {
namespace {

struct Case {
  at::ScalarType products;
  int vector_bytes;
  double tolerance;
};

std::vector<Case> cases() {
  std::vector<Case> all = {{at::kFloat, 0, 1e-5}, {at::kFloat, 32, 1e-5}};
  if (has_bfloat16_products()) all.push_back({at::kBFloat16, 0, 0.06});
  return all;
}

double difference(const at::Tensor& a, const at::Tensor& b) { return a.numel() == 0 ? 0 : (a - b).abs().max().item<double>(); }

at::Tensor activated(Activation activation, const at::Tensor& x) {
  if (activation == Activation::kGeluTanh) return at::gelu(x, "tanh");
  if (activation == Activation::kGeluExact) return at::gelu(x);
  return activation == Activation::kGated ? at::glu(x, 1) : x;
}

TEST(PackedLinearTest, EqualsPlainCallsForAllSizes) {
  at::manual_seed(1);
  for (const Case& one : cases()) {
    for (const int64_t rows : {0, 1, 3, 13, 14, 15, 97, 99, 210}) {
      for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 10}, {16, 32}, {33, 50}, {64, 17}}) {
        const at::Tensor x = at::randn({rows, in}), weight = at::randn({out, in}) / std::sqrt(static_cast<double>(in)),
                         bias = at::randn({out});
        const PackedWeight packed = pack_weight(weight, bias, one.products, false, one.vector_bytes);
        EXPECT_LE(difference(packed_linear(x, packed), at::linear(x, weight, bias)), one.tolerance) << rows << " x " << in << " x " << out;
        const PackedWeight without = pack_weight(weight, {}, one.products, false, one.vector_bytes);
        EXPECT_LE(difference(packed_linear(x, without), at::linear(x, weight)), one.tolerance);
      }
    }
  }
}

TEST(PackedLinearTest, NormActivationAndResidualAreThoseOfPlainCalls) {
  at::manual_seed(2);
  const int64_t rows = 29, in = 20, out = 36;
  const at::Tensor x = at::randn({rows, in}) * 2 + 1, weight = at::randn({out, in}) / 3, bias = at::randn({out}),
                   residual = at::randn({rows, out});
  const RowNorm norm{at::randn({in}), at::randn({in}), 1e-6};
  const at::Tensor normed = at::layer_norm(x, {in}, norm.weight, norm.bias, norm.epsilon);
  for (const Case& one : cases()) {
    for (const Activation activation : {Activation::kNone, Activation::kGeluTanh, Activation::kGeluExact, Activation::kGated}) {
      const bool gated = activation == Activation::kGated;
      const PackedWeight packed = pack_weight(weight, bias, one.products, gated, one.vector_bytes);
      const at::Tensor base = gated ? residual.narrow(1, 0, out / 2).contiguous() : residual;
      const at::Tensor expected = activated(activation, at::linear(normed, weight, bias)) + base;
      EXPECT_LE(difference(packed_linear(x, packed, norm, activation, base), expected), 3 * one.tolerance) << static_cast<int>(activation);
    }
  }
}

// Few rows take two products shared by columns, many one pass by blocks: both on the rows listed only.
TEST(PackedLinearTest, MlpTouchesTheRowsListedAlone) {
  at::manual_seed(3);
  const int64_t dim = 20, width = 50;
  const at::Tensor w1 = at::randn({width, dim}) / 4, b1 = at::randn({width}), w2 = at::randn({dim, width}) / 6, b2 = at::randn({dim});
  const RowNorm norm{at::randn({dim}), at::randn({dim}), 1e-6};
  for (const Case& one : cases()) {
    for (const bool gated : {false, true}) {
      const Activation activation = gated ? Activation::kGated : Activation::kGeluTanh;
      const at::Tensor second = gated ? w2.narrow(1, 0, width / 2).contiguous() : w2;
      const PackedWeight expand = pack_weight(w1, b1, one.products, gated, one.vector_bytes),
                         contract = pack_weight(second, b2, one.products, false, one.vector_bytes);
      for (const int64_t total : {0, 5, 400}) {
        const at::Tensor x = at::randn({total, dim});
        const at::Tensor branch =
            at::linear(activated(activation, at::linear(at::layer_norm(x, {dim}, norm.weight, norm.bias, 1e-6), w1, b1)), second, b2);
        at::Tensor out = at::full_like(x, 7);
        packed_mlp(x, {}, norm, expand, activation, contract, out);
        EXPECT_LE(difference(out, x + branch), 4 * one.tolerance) << total;
        const at::Tensor rows = at::arange(0, total, 3, at::kLong);
        at::Tensor some = at::full_like(x, 7), expected = at::full_like(x, 7);
        expected.index_copy_(0, rows, (x + branch).index_select(0, rows));
        packed_mlp(x, rows, norm, expand, activation, contract, some);
        EXPECT_LE(difference(some, expected), 4 * one.tolerance) << total;
      }
    }
  }
}

// A single row of a wider tensor counts as contiguous, whatever its stride says.
TEST(PackedLinearTest, OneRowOfAWiderTensor) {
  at::manual_seed(9);
  const PackedWeight expand = pack_weight(at::randn({32, 16}), {}, at::kFloat), contract = pack_weight(at::randn({16, 32}), {}, at::kFloat);
  const at::Tensor x = at::randn({3, 4000}).narrow(0, 1, 1).narrow(1, 0, 16), rows = at::zeros({2}, at::kLong);
  at::Tensor out = at::zeros({1, 16}), expected = at::zeros({1, 16});
  packed_mlp(x, rows, {}, expand, Activation::kGeluTanh, contract, out);
  packed_mlp(x.clone(), rows, {}, expand, Activation::kGeluTanh, contract, expected);
  EXPECT_TRUE(out.equal(expected));
}

TEST(PackedLinearTest, SomeColumnsAreThoseOfTheWhole) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({37, 24}), weight = at::randn({100, 24}), bias = at::randn({100});
  for (const Case& one : cases()) {
    const PackedWeight packed = pack_weight(weight, bias, one.products, /*gated=*/false, one.vector_bytes);
    const at::Tensor all = packed_linear(x, packed);
    const int64_t panel = 2 * packed.lanes;
    for (const auto& [first, count] :
         {std::pair<int64_t, int64_t>{0, panel}, {panel, 2 * panel}, {panel, 100 - panel}, {0, 100}, {panel, 0}}) {
      const PackedWeight part = columns_of(packed, first, count);
      ASSERT_TRUE(part.defined()) << first << " " << count;
      EXPECT_TRUE(packed_linear(x, part).equal(all.narrow(1, first, count))) << first << " " << count;
    }
    EXPECT_FALSE(columns_of(packed, 1, panel).defined());
    EXPECT_FALSE(columns_of(packed, 0, panel - 1).defined());
    EXPECT_FALSE(columns_of(pack_weight(weight, bias, one.products, /*gated=*/true, one.vector_bytes), 0, panel).defined());
  }
  EXPECT_THROW(columns_of(pack_weight(weight, bias, at::kFloat), 50, 51), Error);
}

TEST(PackedLinearTest, ARowDependsOnNothingButItself) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({230, 40}), weight = at::randn({70, 40});
  const PackedWeight packed = pack_weight(weight, {}, at::kFloat);
  const at::Tensor all = packed_linear(x, packed);
  at::Tensor poisoned = x.clone();
  poisoned[100].fill_(std::numeric_limits<float>::quiet_NaN());
  const at::Tensor beside = packed_linear(poisoned, packed);
  EXPECT_TRUE(beside[100].isnan().all().item<bool>());
  for (const int64_t row : {0, 99, 101, 229}) {
    EXPECT_TRUE(beside[row].equal(all[row]));
    EXPECT_TRUE(packed_linear(x.narrow(0, row, 1), packed)[0].equal(all[row])) << "alone, row " << row;
  }
}

TEST(PackedLinearTest, LargeAndSmallGatesStayFinite) {
  const at::Tensor x = at::tensor({-1e30f, -200.0f, -5.0f, 0.0f, 5.0f, 200.0f, 1e18f}).view({-1, 1});
  const PackedWeight identity = pack_weight(at::ones({1, 1}), {}, at::kFloat);
  for (const Activation activation : {Activation::kGeluTanh, Activation::kGeluExact}) {
    const at::Tensor got = packed_linear(x, identity, {}, activation);
    EXPECT_TRUE(got.isfinite().all().item<bool>()) << got;
    EXPECT_LE(difference(got / x.abs().clamp_min(1), activated(activation, x.clamp(-1e5, 1e18)) / x.abs().clamp_min(1)), 1e-6);
  }
}

TEST(PackedLinearTest, SaysWhatItExpects) {
  const PackedWeight packed = pack_weight(at::randn({4, 3}), {}, at::kFloat);
  EXPECT_THROW(packed_linear(at::randn({2, 5}), packed), std::exception);
  EXPECT_THROW(packed_linear(at::randn({2, 3}, at::kDouble), packed), std::exception);
  EXPECT_THROW(packed_linear(at::randn({2, 3}), packed, {}, Activation::kGated), std::exception);
  EXPECT_THROW(pack_weight(at::randn({3, 3}), {}, at::kFloat, /*gated=*/true), std::exception);
  at::Tensor x = at::randn({30, 3});
  EXPECT_THROW(
      packed_mlp(x, at::full({1}, 30, at::kLong), {}, packed, Activation::kNone, pack_weight(at::randn({3, 4}), {}, at::kFloat), x),
      std::exception);
}

}  // namespace
}  // namespace adatape::ops
