// Pictures like photographs, the same on every machine: soft light, grain as of a sensor, things with edges and texture.
#pragma once

#include <cstdio>
// jpeglib.h needs FILE
#include <jpeglib.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "adatape/core/rng.h"
#include "adatape/data/picture.h"

namespace adatape {

inline Picture synthetic_photo(uint64_t number, int64_t height, int64_t width) {
  CounterRng random(/*seed=*/1, /*step=*/0, /*site=*/0, number);
  const auto between = [&](double low, double high) { return low + (high - low) * random.uniform(); };
  std::vector<float> light(static_cast<size_t>(height * width * 3));
  double slope[3][3];
  for (auto& colour : slope) {
    colour[0] = between(60, 180);
    colour[1] = between(-80, 80) / static_cast<double>(height);
    colour[2] = between(-80, 80) / static_cast<double>(width);
  }
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (size_t c = 0; c < 3; ++c) {
        light[static_cast<size_t>((y * width + x) * 3) + c] =
            static_cast<float>(slope[c][0] + slope[c][1] * static_cast<double>(y) + slope[c][2] * static_cast<double>(x));
      }
    }
  }
  for (int thing = 0; thing < 24; ++thing) {  // discs with a striped surface
    const double centre_y = between(0, static_cast<double>(height)), centre_x = between(0, static_cast<double>(width));
    const double radius = between(10, 90), wave = between(0.15, 1.2), angle = between(0, 3.14159), contrast = between(5, 30);
    const float colour[3] = {static_cast<float>(between(20, 235)), static_cast<float>(between(20, 235)),
                             static_cast<float>(between(20, 235))};
    for (int64_t y = std::max<int64_t>(0, std::llround(centre_y - radius)); y < std::min<int64_t>(height, std::llround(centre_y + radius));
         ++y) {
      for (int64_t x = std::max<int64_t>(0, std::llround(centre_x - radius)); x < std::min<int64_t>(width, std::llround(centre_x + radius));
           ++x) {
        const double down = static_cast<double>(y) - centre_y, right = static_cast<double>(x) - centre_x;
        if (down * down + right * right > radius * radius) continue;
        const double stripe = contrast * std::sin(wave * (down * std::sin(angle) + right * std::cos(angle)));
        for (size_t c = 0; c < 3; ++c) light[static_cast<size_t>((y * width + x) * 3) + c] = colour[c] + static_cast<float>(stripe);
      }
    }
  }
  Picture picture(height, width);
  for (size_t i = 0; i < picture.pixels.size(); i += 3) {
    const auto grain = static_cast<float>(between(-10, 10) + between(-10, 10));  // mostly of brightness, a little of colour
    for (size_t c = 0; c < 3; ++c) {
      const float value = light[i + c] + grain + static_cast<float>(between(-3, 3));
      picture.pixels[i + c] = static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f) + 0.5f);
    }
  }
  return picture;
}

// The file of a picture, colour at half the size, as cameras store it.
inline std::string jpeg_file(const Picture& picture, int quality) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = static_cast<JDIMENSION>(picture.height);
  info.image_width = static_cast<JDIMENSION>(picture.width);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  for (int64_t y = 0; y < picture.height; ++y) {
    auto* row = const_cast<JSAMPROW>(picture.row(y));
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string file(reinterpret_cast<char*>(bytes), size);
  std::free(bytes);
  return file;
}

}  // namespace adatape
