#include "adatape/data/preprocess.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adatape/core/check.h"
#include "tests/data/picture_files.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

Preprocess small(int64_t channels = 3) { return {.channels = channels, .height = 4, .width = 6, .resize = 4}; }

TEST(PreprocessTest, CutsTheCentreOutOfTheResizedPicture) {
  const Picture picture = gradient_picture(75, 100);
  const Preprocess preprocess{.height = 28, .width = 28, .resize = 32};
  const Picture resized = resample(picture, {0, 0, 75, 100}, 32, 43, Interpolation::kBilinear);  // 100 x 32 / 75 = 42.7
  const Picture view = centre_view(picture, preprocess);
  ASSERT_EQ(view.height, 28);
  ASSERT_EQ(view.width, 28);
  for (int64_t y = 0; y < 28; ++y) {
    for (int64_t x = 0; x < 84; ++x) ASSERT_EQ(view.row(y)[x], resized.row(2 + y)[7 * 3 + x]) << y << " " << x;
  }
}

TEST(PreprocessTest, ShowsWhatFitsUnchanged) {
  const Picture picture = gradient_picture(4, 6);
  EXPECT_EQ(centre_view(picture, small()).pixels, picture.pixels);
  const Picture large = centre_view(gradient_picture(2, 2), small());  // grows: the sides' ratio is 1, the view's is 2 : 3
  EXPECT_EQ(large.height, 4);
  EXPECT_EQ(large.width, 6);
}

TEST(PreprocessTest, LooksAtTheMiddleOfAVeryLongPicture) {
  Picture line(2, 100'000);
  for (int64_t y = 0; y < 2; ++y) std::fill(line.row(y) + 3 * 50'000, line.row(y) + 3 * 100'000, 255);
  const Picture view = centre_view(line, {.height = 8, .width = 8, .resize = 8});
  EXPECT_EQ(view.row(4)[0], 0);
  EXPECT_EQ(view.row(4)[3 * 7], 255);
}

TEST(PreprocessTest, WritesPlanesOfEachChannel) {
  Preprocess preprocess = small();
  preprocess.mean = {0.5, 0.25, 0};
  preprocess.deviation = {0.5, 1, 2};
  Picture picture(4, 6, 51);
  picture.row(1)[3 * 2 + 1] = 255;
  std::vector<float> planes(3 * 24, 9.0f);
  PlaneWriter(preprocess).write(picture, {}, planes.data());
  EXPECT_FLOAT_EQ(planes[0], -0.6f);
  EXPECT_FLOAT_EQ(planes[24], -0.05f);
  EXPECT_FLOAT_EQ(planes[24 + 8], 0.75f);
  EXPECT_FLOAT_EQ(planes[48], 0.1f);
  PlaneWriter(preprocess).write(picture, {.flip = true, .down = 1, .right = 2}, planes.data());
  EXPECT_FLOAT_EQ(planes[24 + 2 * 6 + 2 + 3], 0.75f);  // (1, 2) mirrored is (1, 3), moved (2, 5)
  EXPECT_FLOAT_EQ(planes[0], -1);                      // black comes into view
}

TEST(PreprocessTest, MakesGreyOfColour) {
  const uint8_t rgb[] = {200, 100, 50};
  EXPECT_EQ(grey_of(rgb), 124);  // 0.299 x 200 + 0.587 x 100 + 0.114 x 50 = 124.2
  std::vector<float> plane(24);
  Picture picture(4, 6);
  std::copy(rgb, rgb + 3, picture.row(2));
  PlaneWriter(small(1)).write(picture, {}, plane.data());
  EXPECT_FLOAT_EQ(plane[12], 124 / 127.5f - 1);
  EXPECT_FLOAT_EQ(plane[0], -1);
}

TEST(PreprocessTest, GivesThePictureBack) {
  Preprocess preprocess{.height = 16, .width = 32, .mean = {0.485, 0.456, 0.406}, .deviation = {0.229, 0.224, 0.225}};  // of ImageNet
  Picture picture(16, 32);
  for (size_t i = 0; i < picture.pixels.size(); ++i)
    picture.pixels[i] = static_cast<uint8_t>(i / 3 + 85 * (i % 3));  // all bytes, each channel
  std::vector<float> planes(picture.pixels.size());
  PlaneWriter(preprocess).write(picture, {}, planes.data());
  EXPECT_EQ(picture_of_planes(planes.data(), preprocess).pixels, picture.pixels);

  preprocess.channels = 1;
  preprocess.mean = {0.1307};
  preprocess.deviation = {0.3081};
  PlaneWriter(preprocess).write(picture, {}, planes.data());
  const Picture grey = picture_of_planes(planes.data(), preprocess);
  for (size_t i = 0; i < grey.pixels.size(); ++i) ASSERT_EQ(grey.pixels[i], grey_of(&picture.pixels[i / 3 * 3])) << i;
  planes[0] = 1e9f;
  planes[1] = -1e9f;
  EXPECT_EQ(picture_of_planes(planes.data(), preprocess).row(0)[0], 255);
  EXPECT_EQ(picture_of_planes(planes.data(), preprocess).row(0)[3], 0);
}

TEST(PreprocessTest, SaysWhatIsWrong) {
  const auto refusal = [](Preprocess preprocess) -> std::string {
    try {
      centre_view(gradient_picture(8, 8), preprocess);
      PlaneWriter{preprocess}.write(gradient_picture(5, 6), {}, nullptr);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  Preprocess preprocess = small();
  EXPECT_THAT(refusal(preprocess), HasSubstr("expected a picture of 6 x 4 pixels, got 6 x 5"));
  preprocess.mean = {0.5, 0.5};
  EXPECT_THAT(refusal(preprocess), HasSubstr("expected 1 or 3 numbers as mean, got 2"));
  preprocess.resize = 3;
  EXPECT_THAT(refusal(preprocess), HasSubstr("expected resize >= 4, got 3"));
}

}  // namespace
}  // namespace adatape
