#include "adatape/data/resample.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/from_blob.h>
#include <gtest/gtest.h>

#include <cmath>

#include "adatape/core/check.h"
#include "tests/data/picture_files.h"

namespace adatape {
namespace {

Picture noisy_picture(int64_t height, int64_t width) {
  Picture picture(height, width);
  uint32_t random = 7;
  for (uint8_t& value : picture.pixels) {
    random = random * 1664525 + 1013904223;
    value = static_cast<uint8_t>(random >> 24);
  }
  return picture;
}

TEST(ResampleTest, AgreesWithAten) {
  const Picture picture = noisy_picture(61, 47);
  const Box parts[] = {{0, 0, 61, 47}, {5, 7, 40, 30}, {60, 46, 1, 1}};
  const std::pair<int64_t, int64_t> sizes[] = {{61, 47}, {20, 13}, {100, 90}, {33, 64}, {1, 1}};
  for (const Box& part : parts) {
    const at::Tensor all = at::from_blob(const_cast<uint8_t*>(picture.pixels.data()), {61, 47, 3}, at::kByte);
    const at::Tensor input =
        all.narrow(0, part.top, part.height).narrow(1, part.left, part.width).permute({2, 0, 1}).unsqueeze(0).to(at::kFloat);
    for (const auto& [height, width] : sizes) {
      for (const Interpolation interpolation : {Interpolation::kBilinear, Interpolation::kBicubic}) {
        const at::Tensor expected = interpolation == Interpolation::kBilinear ? at::_upsample_bilinear2d_aa(input, {height, width}, false)
                                                                              : at::_upsample_bicubic2d_aa(input, {height, width}, false);
        const Picture got = resample(picture, part, height, width, interpolation);
        const at::Tensor bytes = at::from_blob(const_cast<uint8_t*>(got.pixels.data()), {height, width, 3}, at::kByte);
        const at::Tensor actual = bytes.permute({2, 0, 1}).unsqueeze(0).to(at::kFloat);
        // Half a step of rounding, and float's own.
        EXPECT_LE((actual - expected.clamp(0, 255)).abs().max().item<float>(), 0.501f) << part.height << " to " << height << " x " << width;
      }
    }
  }
}

TEST(ResampleTest, RefusesWhatIsOutside) {
  const Picture picture(4, 4);
  EXPECT_THROW(resample(picture, {0, 0, 5, 4}, 2, 2, Interpolation::kBilinear), Error);
  EXPECT_THROW(resample(picture, {0, 0, 4, 4}, 0, 2, Interpolation::kBilinear), Error);
}

}  // namespace
}  // namespace adatape
