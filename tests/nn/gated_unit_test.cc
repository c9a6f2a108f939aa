#include "adatape/nn/gated_unit.h"

#include "tests/error_of.h"
#include "tests/nn/nn_cases.h"

namespace adatape::testing {
namespace {

TEST(GatedUnitTest, IsATimesTheSigmoidOfG) {
  const torch::Tensor x = torch::tensor({{2.0f, -3.0f, 0.0f, 1.0f}});
  const torch::Tensor out = gated_unit(x);
  EXPECT_FLOAT_EQ(out[0][0].item<float>(), 1.0f);
  EXPECT_FLOAT_EQ(out[0][1].item<float>(), -3.0f * 0.7310586f);
}

// Widths below, at and above a vector's, and gates from saturated to saturated, against ATen in float64.
TEST(GatedUnitTest, AgreesWithAten) {
  torch::manual_seed(1);
  for (const int64_t width : {1, 7, 8, 16, 33, 300}) {
    torch::Tensor x = torch::randn({50, 2 * width}) * 4;
    x[0].fill_(200);
    x[1].fill_(-200);
    x.requires_grad_();
    const torch::Tensor exact = x.detach().to(torch::kFloat64).requires_grad_();
    const torch::Tensor weights = torch::randn({50, width});
    const torch::Tensor got = gated_unit(x), expected = at::glu(exact, -1);
    (got * weights).sum().backward();
    (expected * weights).sum().backward();
    EXPECT_LT((got - expected).abs().max().item<double>(), 1e-6 * 200) << width;
    EXPECT_LT((x.grad() - exact.grad()).abs().max().item<double>(), 1e-5) << width;
    EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
  }
}

TEST(GatedUnitTest, NaNStaysNaN) {
  const torch::Tensor x = torch::tensor({{1.0f, 1.0f, NAN, 0.0f}});
  EXPECT_TRUE(std::isnan(gated_unit(x)[0][0].item<float>()));
  EXPECT_FLOAT_EQ(gated_unit(x)[0][1].item<float>(), 0.5f);
}

TEST(GatedUnitTest, Errors) {
  EXPECT_THAT(error_of([] { gated_unit(torch::zeros({2, 3})); }), ::testing::HasSubstr("expected [rows, 2 m], got [2, 3]"));
}

}  // namespace
}  // namespace adatape::testing
