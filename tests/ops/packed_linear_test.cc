// The packed products of inference against plain ATen calls in float64, on every size of tile, both vector widths and both kinds of
// factors. Factors of bfloat16 may err twice as much as the plain calls in bfloat16.
#include "adatape/ops/packed_linear/packed_linear.h"

#include <ATen/Parallel.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/glu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <functional>
#include <limits>

#include "adatape/core/check.h"
#include "tests/error_of.h"

namespace adatape::ops {
namespace {

struct Case {
  at::ScalarType products;
  int vector_bytes;
};

std::vector<Case> cases() {
  std::vector<Case> all = {{at::kFloat, 0}, {at::kFloat, 32}};
  if (has_bfloat16_products()) all.push_back({at::kBFloat16, 0});
  return all;
}

double difference(const at::Tensor& a, const at::Tensor& b) { return a.numel() == 0 ? 0 : (a - b).abs().max().item<double>(); }

// Plain calls with all tensors in a dtype: in float64 the answer, in bfloat16 what ours may err twice as much as. float32 has `tolerance`.
class Expected {
 public:
  Expected(const Case& one, double tolerance, const std::function<at::Tensor(at::ScalarType)>& plain) : exact_(plain(at::kDouble)) {
    bound_ = one.products == at::kFloat ? tolerance : 2 * difference(plain(at::kBFloat16).to(at::kDouble), exact_) + 1e-6;
  }
  // Rows of the answer, some or all: the bound is that of all.
  bool is(const at::Tensor& got) const { return is(got, exact_); }
  bool is(const at::Tensor& got, const at::Tensor& exact) const {
    return got.sizes() == exact.sizes() && difference(got.to(at::kDouble), exact) <= bound_;
  }
  const at::Tensor& exact() const { return exact_; }

 private:
  at::Tensor exact_;
  double bound_;
};

at::Tensor plain_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, at::ScalarType type) {
  return at::linear(x.to(type), weight.to(type), bias.defined() ? std::optional<at::Tensor>(bias.to(type)) : std::nullopt);
}

at::Tensor plain_norm(const at::Tensor& x, const RowNorm& norm, at::ScalarType type) {
  return at::layer_norm(x.to(type), {x.size(1)}, norm.weight.to(type), norm.bias.to(type), norm.epsilon);
}

at::Tensor activated(Activation activation, const at::Tensor& x) {
  if (activation == Activation::kGeluTanh) return at::gelu(x, "tanh");
  if (activation == Activation::kGeluExact) return at::gelu(x);
  return activation == Activation::kGated ? at::glu(x, 1) : x;
}

TEST(PackedLinearTest, EqualsPlainCallsForAllSizes) {
  at::manual_seed(1);
  for (const Case& one : cases()) {
    for (const auto& [in, out] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {7, 10}, {16, 32}, {33, 50}, {64, 17}}) {
      const at::Tensor all = at::randn({210, in}), weight = at::randn({out, in}) / std::sqrt(static_cast<double>(in));
      for (const at::Tensor& bias : {at::randn({out}), at::Tensor()}) {
        const PackedWeight packed = pack_weight(weight, bias, one.products, false, one.vector_bytes);
        const Expected expected(one, 1e-5, [&](at::ScalarType type) { return plain_linear(all, weight, bias, type); });
        for (const int64_t rows : {0, 1, 3, 13, 14, 15, 97, 99, 210}) {
          EXPECT_TRUE(expected.is(packed_linear(all.narrow(0, 0, rows), packed), expected.exact().narrow(0, 0, rows)))
              << rows << " x " << in << " x " << out << " " << one.products;
        }
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
  for (const Case& one : cases()) {
    for (const Activation activation : {Activation::kNone, Activation::kGeluTanh, Activation::kGeluExact, Activation::kGated}) {
      const bool gated = activation == Activation::kGated;
      const PackedWeight packed = pack_weight(weight, bias, one.products, gated, one.vector_bytes);
      const at::Tensor base = gated ? residual.narrow(1, 0, out / 2).contiguous() : residual;
      const Expected expected(one, 3e-5, [&](at::ScalarType type) {
        return activated(activation, plain_linear(plain_norm(x, norm, type), weight, bias, type)) + base.to(type);
      });
      EXPECT_TRUE(expected.is(packed_linear(x, packed, norm, activation, base))) << static_cast<int>(activation) << " " << one.products;
    }
  }
}

// Rows that lie further apart than they are long: float32 reads them in place.
TEST(PackedLinearTest, RowsMayLieApart) {
  at::manual_seed(6);
  const at::Tensor apart = at::randn({97, 40}).narrow(1, 3, 33), weight = at::randn({50, 33});
  for (const Case& one : cases()) {
    const PackedWeight packed = pack_weight(weight, {}, one.products, false, one.vector_bytes);
    EXPECT_TRUE(packed_linear(apart, packed).equal(packed_linear(apart.contiguous(), packed)));
    const RowNorm norm{at::ones({33}), at::zeros({33}), 1e-6};
    EXPECT_TRUE(packed_linear(apart, packed, norm).equal(packed_linear(apart.contiguous(), packed, norm)));
  }
}

// Two layers of width 20 -> 50 -> 20, gated or not.
struct Network {
  Network(const Case& one, bool gated)
      : activation(gated ? Activation::kGated : Activation::kGeluTanh),
        w2(gated ? wide_w2.narrow(1, 0, 25).contiguous() : wide_w2),
        expand(pack_weight(w1, b1, one.products, gated, one.vector_bytes)),
        contract(pack_weight(w2, b2, one.products, false, one.vector_bytes)) {}

  at::Tensor plain(const at::Tensor& x, at::ScalarType type) const {
    return x.to(type) + plain_linear(activated(activation, plain_linear(plain_norm(x, norm, type), w1, b1, type)), w2, b2, type);
  }
  at::Tensor run(const at::Tensor& x, const at::Tensor& rows = {}) const {  // 7 where a row is not listed
    at::Tensor out = at::full_like(x, 7);
    packed_mlp(x, rows, norm, expand, activation, contract, out);
    return out;
  }

  at::Tensor w1 = at::randn({50, 20}) / 4, b1 = at::randn({50}), wide_w2 = at::randn({20, 50}) / 6, b2 = at::randn({20});
  RowNorm norm{at::randn({20}), at::randn({20}), 1e-6};
  Activation activation;
  at::Tensor w2;
  PackedWeight expand, contract;
};

// Few rows take two products shared by columns, many one pass by blocks: both on the rows listed only.
TEST(PackedLinearTest, MlpTouchesTheRowsListedAlone) {
  at::manual_seed(3);
  for (const Case& one : cases()) {
    for (const bool gated : {false, true}) {
      const Network network(one, gated);
      for (const int64_t total : {0, 5, 400}) {
        const at::Tensor x = at::randn({total, 20});
        const Expected expected(one, 4e-5, [&](at::ScalarType type) { return network.plain(x, type); });
        EXPECT_TRUE(expected.is(network.run(x))) << total << " " << one.products;
        const at::Tensor rows = at::arange(0, total, 3, at::kLong);
        at::Tensor some = at::full({total, 20}, 7, at::kDouble);
        some.index_copy_(0, rows, expected.exact().index_select(0, rows));
        EXPECT_TRUE(expected.is(network.run(x, rows), some)) << total << " " << one.products;
      }
    }
  }
}

TEST(PackedLinearTest, NanStaysInItsRowThroughNormActivationAndBothLayers) {
  at::manual_seed(7);
  const auto expect_in_row_7 = [](const at::Tensor& got, const at::Tensor& clean, const std::string& what) {
    EXPECT_TRUE(got[7].isnan().all().item<bool>()) << what;
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 7}, {8, got.size(0) - 8}})
      EXPECT_TRUE(got.narrow(0, first, count).equal(clean.narrow(0, first, count))) << what;
  };
  for (const Case& one : cases()) {
    for (const int64_t total : {30, 400}) {
      const at::Tensor x = at::randn({total, 20}), weight = at::randn({36, 20}), residual = at::randn({total, 36});
      at::Tensor broken = x.clone();
      broken[7][3] = std::numeric_limits<float>::quiet_NaN();
      for (const Activation activation : {Activation::kNone, Activation::kGeluTanh, Activation::kGeluExact, Activation::kGated}) {
        const bool gated = activation == Activation::kGated;
        const PackedWeight packed = pack_weight(weight, {}, one.products, gated, one.vector_bytes);
        const at::Tensor base = gated ? residual.narrow(1, 0, 18).contiguous() : residual;
        for (const RowNorm& norm : {RowNorm{}, RowNorm{at::ones({20}), at::zeros({20}), 1e-6}}) {
          expect_in_row_7(packed_linear(broken, packed, norm, activation, base), packed_linear(x, packed, norm, activation, base),
                          concat("activation ", static_cast<int>(activation), ", norm ", norm.weight.defined(), ", ", one.products));
        }
      }
      for (const bool gated : {false, true}) {
        const Network network(one, gated);
        const at::Tensor rows = at::arange(1, total, 2, at::kLong);
        expect_in_row_7(network.run(broken), network.run(x), "both layers");
        expect_in_row_7(network.run(broken, rows), network.run(x, rows), "both layers, some rows");
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

// No gradient is dropped in silence.
TEST(PackedLinearTest, RefusesWhatAsksForAGradient) {
  const PackedWeight expand = pack_weight(at::randn({4, 3}), {}, at::kFloat), contract = pack_weight(at::randn({3, 4}), {}, at::kFloat);
  const at::Tensor x = at::randn({2, 3}), leaf = at::randn({2, 3}).requires_grad_(), weight = at::ones({3}).requires_grad_();
  at::Tensor out = at::empty({2, 3});
  const auto refused = ::testing::HasSubstr("packed linear: expected inputs of which no gradient is asked, got one that requires it");
  EXPECT_THAT(error_of([&] { packed_linear(leaf, expand); }), refused);
  EXPECT_THAT(error_of([&] { packed_linear(x, expand, {weight, at::zeros({3}), 1e-6}); }), refused);
  EXPECT_THAT(error_of([&] { packed_linear(x, expand, {}, Activation::kNone, at::randn({2, 4}).requires_grad_()); }), refused);
  EXPECT_THAT(error_of([&] { packed_mlp(leaf, {}, {}, expand, Activation::kNone, contract, out); }), refused);
  EXPECT_EQ(error_of([&] { packed_linear(x, expand); }), "no error");
  const at::NoGradGuard no_grad;
  EXPECT_EQ(error_of([&] {
              packed_linear(leaf, expand, {weight, weight, 1e-6});
              packed_mlp(leaf, {}, {}, expand, Activation::kNone, contract, out);
            }),
            "no error");
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
  const PackedWeight back = pack_weight(at::randn({3, 4}), {}, at::kFloat);
  at::Tensor out = at::empty({30, 3});
  for (const at::Tensor& apart : {at::randn({30, 5}).narrow(1, 0, 3), at::randn({60, 3}).slice(0, 0, 60, 2)}) {
    EXPECT_THAT(error_of([&] { packed_mlp(apart, {}, {}, packed, Activation::kNone, back, out); }),
                ::testing::HasSubstr("expected contiguous x and out of equal size and different memory"));
  }
}

}  // namespace
}  // namespace adatape::ops
