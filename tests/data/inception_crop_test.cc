#include "adatape/data/inception_crop.h"

#include <gtest/gtest.h>

namespace adatape {
namespace {

TEST(InceptionCropTest, StaysWithinAndCoversTheRange) {
  CounterRng random(1, 0, site(Site::kAugment), 0);
  double least = 1, most = 0, narrowest = 9, widest = 0, left = 1, right = 0;
  for (int i = 0; i < 20'000; ++i) {
    const Box part = inception_crop(375, 500, 0.05, random);
    ASSERT_GE(part.top, 0);
    ASSERT_GE(part.left, 0);
    ASSERT_LE(part.top + part.height, 375);
    ASSERT_LE(part.left + part.width, 500);
    const double share = static_cast<double>(part.height * part.width) / (375.0 * 500),
                 ratio = static_cast<double>(part.width) / static_cast<double>(part.height);
    least = std::min(least, share);
    most = std::max(most, share);
    narrowest = std::min(narrowest, ratio);
    widest = std::max(widest, ratio);
    left = std::min(left, static_cast<double>(part.left) / 500);
    right = std::max(right, static_cast<double>(part.left + part.width) / 500);
  }
  EXPECT_NEAR(least, 0.05, 0.003);
  EXPECT_GT(most, 0.97);
  EXPECT_NEAR(narrowest, 0.75, 0.01);
  EXPECT_NEAR(widest, 4.0 / 3, 0.01);
  EXPECT_EQ(left, 0);
  EXPECT_EQ(right, 1);
}

TEST(InceptionCropTest, DrawsHeightsEvenly) {
  CounterRng random(2, 0, site(Site::kAugment), 0);
  double sum = 0;
  for (int i = 0; i < 20'000; ++i) sum += static_cast<double>(inception_crop(1000, 4000, 0.01, random).height);
  // The area allows the whole height for every ratio: uniform from sqrt(0.01 x 4 / ratio) (0.2 at ratio 1) to 1.
  EXPECT_NEAR(sum / 20'000, 600, 10);
}

TEST(InceptionCropTest, TakesTheMiddleOfWhatHasNoFittingPart) {
  CounterRng random(1, 0, site(Site::kAugment), 0);
  const Box line = inception_crop(3, 1000, 1.0, random);
  EXPECT_EQ(line.height, 3);
  EXPECT_EQ(line.width, 4);
  EXPECT_EQ(line.left, 498);
  const Box dot = inception_crop(1, 1, 0.05, random);
  EXPECT_EQ(dot.height, 1);
  EXPECT_EQ(dot.width, 1);
}

}  // namespace
}  // namespace adatape
