#include "adatape/data/rand_augment.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/data/picture_files.h"

namespace adatape {
namespace {

CounterRng stream(uint64_t example = 0) { return CounterRng(1, 0, site(Site::kAugment), example); }

Picture distorted(Picture picture, Distortion distortion, double level, uint64_t example = 0) {
  CounterRng random = stream(example);
  distort(picture, distortion, level, random);
  return picture;
}

Picture of_bytes(std::vector<uint8_t> pixels, int64_t height, int64_t width) {
  Picture picture(height, width);
  picture.pixels = std::move(pixels);
  return picture;
}

// One row of grey pixels.
Picture greys(const std::vector<uint8_t>& values) {
  Picture picture(1, static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) std::fill_n(picture.row(0) + 3 * i, 3, values[i]);
  return picture;
}

std::vector<int> values_of(const Picture& picture) {
  std::vector<int> values;
  for (size_t i = 0; i < picture.pixels.size(); i += 3) values.push_back(picture.pixels[i]);
  return values;
}

using Ints = std::vector<int>;

TEST(RandAugmentTest, MapsBytesAsTheLevelSays) {
  const Picture row = greys({0, 60, 127, 128, 200, 255});
  EXPECT_EQ(values_of(distorted(row, Distortion::kInvert, 3)), (Ints{255, 195, 128, 127, 55, 0}));
  EXPECT_EQ(values_of(distorted(row, Distortion::kSolarize, 5)), (Ints{0, 60, 127, 127, 55, 0}));
  EXPECT_EQ(values_of(distorted(row, Distortion::kSolarize, 15)), values_of(row));  // from 384 on: nothing
  EXPECT_EQ(values_of(distorted(row, Distortion::kSolarizeAdd, 5)), (Ints{55, 115, 182, 128, 200, 255}));
  EXPECT_EQ(values_of(distorted(row, Distortion::kSolarizeAdd, 15)), (Ints{165, 225, 255, 128, 200, 255}));
  EXPECT_EQ(values_of(distorted(row, Distortion::kPosterize, 5)), (Ints{0, 0, 64, 128, 192, 192}));     // 2 bits
  EXPECT_EQ(values_of(distorted(row, Distortion::kPosterize, 15)), (Ints{0, 60, 124, 128, 200, 252}));  // 6 bits
  EXPECT_EQ(values_of(distorted(row, Distortion::kPosterize, 30)), values_of(row));
  EXPECT_EQ(values_of(distorted(row, Distortion::kBrightness, 5)), values_of(row));  // factor 1
  EXPECT_EQ(values_of(distorted(row, Distortion::kBrightness, 0)), (Ints{0, 6, 12, 12, 20, 25}));
  EXPECT_EQ(values_of(distorted(row, Distortion::kBrightness, 10)), (Ints{0, 114, 241, 243, 255, 255}));
}

TEST(RandAugmentTest, StretchesAndFlattensContrast) {
  EXPECT_EQ(values_of(distorted(greys({50, 100, 150}), Distortion::kAutoContrast, 1)), (Ints{0, 127, 255}));
  EXPECT_EQ(values_of(distorted(greys({7, 7}), Distortion::kAutoContrast, 1)), (Ints{7, 7}));
  EXPECT_EQ(values_of(distorted(greys({7, 9}), Distortion::kEqualize, 1)), (Ints{7, 9}));  // fewer than 255 pixels: as it is
  // 510 pixels of 10, 510 of 20, 510 of 30: a step is 1020 / 255 = 4, so 10 -> 2 / 4, 20 -> 512 / 4, 30 -> 1022 / 4.
  std::vector<uint8_t> values;
  for (const uint8_t value : {10, 20, 30}) values.insert(values.end(), 510, value);
  const Ints flat = values_of(distorted(greys(values), Distortion::kEqualize, 1));
  EXPECT_EQ(flat.front(), 0);
  EXPECT_EQ(flat[600], 128);
  EXPECT_EQ(flat.back(), 255);
  EXPECT_EQ(values_of(distorted(greys({100, 200}), Distortion::kContrast, 10)), (Ints{55, 245}));  // mean 150, factor 1.9
  EXPECT_EQ(values_of(distorted(greys({100, 200}), Distortion::kContrast, 5)), (Ints{100, 200}));
}

TEST(RandAugmentTest, MovesColourTowardsAndAwayFromGrey) {
  const Picture pixel = of_bytes({200, 100, 50}, 1, 1);  // grey 124
  EXPECT_EQ(distorted(pixel, Distortion::kColour, 0).pixels, (std::vector<uint8_t>{131, 121, 116}));
  EXPECT_EQ(distorted(pixel, Distortion::kColour, 5).pixels, pixel.pixels);
  EXPECT_EQ(distorted(pixel, Distortion::kColour, 10).pixels, (std::vector<uint8_t>{255, 78, 0}));
}

TEST(RandAugmentTest, Sharpens) {
  Picture picture(3, 3, 100);
  picture.row(1)[3] = 230;  // smoothed: (8 x 100 + 5 x 230) / 13 = 150
  EXPECT_EQ(distorted(picture, Distortion::kSharpness, 5).pixels, picture.pixels);
  EXPECT_EQ(distorted(picture, Distortion::kSharpness, 0).row(1)[3], 158);
  EXPECT_EQ(distorted(picture, Distortion::kSharpness, 10).row(1)[3], 255);
  EXPECT_EQ(distorted(picture, Distortion::kSharpness, 0).row(0)[0], 100);
}

TEST(RandAugmentTest, MovesPixelsToBothSides) {
  const Picture picture = gradient_picture(224, 224);
  std::set<int> seen;
  for (uint64_t example = 0; example < 20; ++example) {
    const Picture moved = distorted(picture, Distortion::kTranslateX, 1, example);  // 10 pixels
    const bool right = moved.row(0)[0] == 128 && moved.row(9)[3 * 9] == 128;
    seen.insert(right);
    for (const int64_t x : {20, 100, 200}) {
      for (size_t c = 0; c < 3; ++c)
        ASSERT_EQ(moved.row(50)[3 * x + static_cast<int64_t>(c)], picture.row(50)[3 * (x + (right ? -10 : 10)) + static_cast<int64_t>(c)]);
    }
    const Picture sheared = distorted(picture, Distortion::kShearY, 10, example);  // row 50 reads row 50 +- 0.3 x
    const int64_t from = sheared.row(50)[3 * 100] == picture.row(80)[3 * 100] ? 80 : 20;
    ASSERT_EQ(sheared.row(50)[3 * 100], picture.row(from)[3 * 100]);
    ASSERT_EQ(sheared.row(50)[0], picture.row(50)[0]);
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST(RandAugmentTest, RotatesAboutTheCentre) {
  const Picture picture = gradient_picture(101, 101);
  for (uint64_t example = 0; example < 8; ++example) {
    const Picture quarter = distorted(picture, Distortion::kRotate, 30, example);  // 90 degrees
    EXPECT_EQ(quarter.row(50)[3 * 50], picture.row(50)[3 * 50]);
    const bool clockwise = quarter.row(0)[0] == picture.row(100)[0];
    for (const auto& [y, x] : std::vector<std::pair<int64_t, int64_t>>{{0, 0}, {10, 70}, {99, 3}}) {
      const uint8_t* from = clockwise ? picture.row(100 - x) + 3 * y : picture.row(x) + 3 * (100 - y);
      EXPECT_EQ(quarter.row(y)[3 * x], from[0]);
      EXPECT_EQ(quarter.row(y)[3 * x + 1], from[1]);
    }
  }
  const Picture tilted = distorted(Picture(101, 101, 7), Distortion::kRotate, 10);
  EXPECT_EQ(tilted.row(0)[0], 128);  // comes into view
  EXPECT_EQ(tilted.row(50)[3 * 20], 7);
}

TEST(RandAugmentTest, CutsASquareOut) {
  std::set<std::pair<int64_t, int64_t>> places;
  for (uint64_t example = 0; example < 50; ++example) {
    const Picture cut = distorted(Picture(224, 224, 9), Distortion::kCutout, 5, example);  // half a side: 20
    int64_t count = 0, top = 224, left = 224;
    for (int64_t y = 0; y < 224; ++y) {
      for (int64_t x = 0; x < 224; ++x) {
        if (cut.row(y)[3 * x] != 128) continue;
        ++count;
        top = std::min(top, y);
        left = std::min(left, x);
      }
    }
    EXPECT_GE(count, 400);
    EXPECT_LE(count, 1600);
    places.insert({top, left});
  }
  EXPECT_GT(places.size(), 40u);
}

TEST(RandAugmentTest, DrawsEveryDistortionAndDependsOnTheStreamAlone) {
  const Picture picture = gradient_picture(40, 50);
  std::set<std::vector<uint8_t>> results;
  for (uint64_t example = 0; example < 300; ++example) {
    Picture once = picture, again = picture;
    CounterRng first = stream(example), second = stream(example);
    rand_augment(once, 1, 7, first);
    rand_augment(again, 1, 7, second);
    ASSERT_EQ(once.pixels, again.pixels);
    results.insert(once.pixels);
  }
  // 10 without a direction, 5 with two each (this picture is no smaller for one of them), and cutouts at many places.
  EXPECT_GE(results.size(), 25u);
  Picture same = picture;
  CounterRng random = stream();
  rand_augment(same, 0, 7, random);
  EXPECT_EQ(same.pixels, picture.pixels);
}

TEST(RandAugmentTest, TakesTheSmallestPicture) {
  for (int64_t d = 0; d < kDistortions; ++d) {
    for (const double level : {0.0, 30.0}) EXPECT_EQ(distorted(Picture(1, 1, 50), static_cast<Distortion>(d), level).pixels.size(), 3u);
  }
}

}  // namespace
}  // namespace adatape
