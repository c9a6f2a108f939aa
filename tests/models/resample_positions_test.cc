#include "adatape/models/resample_positions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_cases.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

// Expected numbers: the formula of anti-aliased bicubic resampling (a = -0.5, centres of cells aligned) written out in double precision.
torch::Tensor squares() { return (torch::arange(17, torch::kFloat32).square() / 8).view({17, 1}); }

TEST(ResamplePositionsTest, Growing) {
  const torch::Tensor expected =
      torch::tensor({0.00000,  -0.02663, 0.11708,  0.40652,  0.79434,  1.38320,  1.79510,  1.71693,  2.19080,  3.00214,  3.85086,
                     4.96163,  5.70369,  6.00164,  6.88235,  8.33681,  9.75347,  11.50735, 12.65625, 13.53164, 14.81918, 16.91675,
                     18.90136, 21.29835, 22.85408, 21.37608, 22.99378, 25.61325, 28.05876, 30.97766, 32.86355});
  const torch::Tensor got = resample_positions(squares(), 1, {4, 4}, {5, 6});
  EXPECT_TRUE(got.view(-1).allclose(expected, 0, 2e-5)) << got.view(-1);
}

TEST(ResamplePositionsTest, Shrinking) {
  const torch::Tensor expected = torch::tensor({0.00000, 0.79952, 2.28794, 7.44566, 11.32686, 20.67791, 26.95188});
  const torch::Tensor got = resample_positions(squares(), 1, {4, 4}, {3, 2});
  EXPECT_TRUE(got.view(-1).allclose(expected, 0, 2e-5)) << got.view(-1);
}

TEST(ResamplePositionsTest, WhatFitsStays) { EXPECT_TRUE(resample_positions(squares(), 1, {4, 4}, {4, 4}).equal(squares())); }

TEST(ResamplePositionsTest, AModelForOtherImagesTakesThem) {
  const InputSpec spec = testing::image_spec(16, 24);
  const auto model = testing::make_model(
      "adatape", "patch = 4\nclass_token = true\nwidth = 8\nheads = 2\nffn_width = 8\nblocks = 2\n[[banks]]\npatch = 2\nresolution = 12\n",
      spec);
  const torch::Tensor stem = torch::rand({1 + 9, 8}), bank = torch::rand({25, 8});
  EXPECT_TRUE(fit_positions(stem, "stem.positions", *model, spec).equal(resample_positions(stem, 1, {3, 3}, {4, 6})));
  EXPECT_TRUE(fit_positions(bank, "bank_input.positions", *model, spec).equal(resample_positions(bank, 0, {5, 5}, {6, 6})));
  const torch::Tensor equal = torch::rand({1 + 24, 8});
  EXPECT_TRUE(fit_positions(equal, "stem.positions", *model, spec).equal(equal));
  // What the positions were trained on says what no square could: 2 x 8 patches, or as many as now in another shape.
  const InputSpec wide = testing::image_spec(8, 32), tall = testing::image_spec(24, 16);
  const torch::Tensor of_wide = torch::rand({1 + 16, 8});
  EXPECT_TRUE(fit_positions(of_wide, "stem.positions", *model, spec, &wide).equal(resample_positions(of_wide, 1, {2, 8}, {4, 6})));
  EXPECT_TRUE(fit_positions(equal, "stem.positions", *model, spec, &tall).equal(resample_positions(equal, 1, {6, 4}, {4, 6})));
  EXPECT_TRUE(fit_positions(equal, "stem.positions", *model, spec, &spec).equal(equal));
  try {
    fit_positions(torch::rand({1 + 11, 8}), "stem.positions", *model, spec);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("a square of patches and a class token, which could be resampled to 4 x 6, got 12 of them"));
  }
}

}  // namespace
}  // namespace adatape
