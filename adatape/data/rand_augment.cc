#include "adatape/data/rand_augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <sstream>

#include "adatape/core/check.h"
#include "adatape/data/preprocess.h"

namespace adatape {
namespace {

using Table = std::array<uint8_t, 256>;
constexpr uint8_t kGrey = 128;
constexpr double kUsualSide = 224;  // lengths in pixels are meant for pictures of this side

uint8_t byte_of(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

template <class Value>
void map_bytes(Picture& picture, const Value& value) {
  Table table;
  for (int byte = 0; byte < 256; ++byte) table[static_cast<size_t>(byte)] = value(byte);
  for (uint8_t& byte : picture.pixels) byte = table[byte];
}

std::array<std::array<int64_t, 256>, 3> histograms(const Picture& picture) {
  std::array<std::array<int64_t, 256>, 3> counts{};
  for (size_t i = 0; i < picture.pixels.size(); ++i) ++counts[i % 3][picture.pixels[i]];
  return counts;
}

void map_channels(Picture& picture, const std::array<Table, 3>& tables) {
  for (size_t i = 0; i < picture.pixels.size(); ++i) picture.pixels[i] = tables[i % 3][picture.pixels[i]];
}

// Each channel stretched to 0 .. 255.
void auto_contrast(Picture& picture) {
  const auto counts = histograms(picture);
  std::array<Table, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    int low = 0, high = 255;
    while (low < 255 && counts[c][static_cast<size_t>(low)] == 0) ++low;
    while (high > 0 && counts[c][static_cast<size_t>(high)] == 0) --high;
    const double scale = high > low ? 255.0 / (high - low) : 1;
    for (int byte = 0; byte < 256; ++byte) {
      tables[c][static_cast<size_t>(byte)] = high > low ? byte_of((byte - low) * scale + 1e-9) : static_cast<uint8_t>(byte);
    }
  }
  map_channels(picture, tables);
}

// Each channel's histogram flattened, as PIL does it: in whole steps, of all pixels but those of the brightest value there is.
void equalize(Picture& picture) {
  const auto counts = histograms(picture);
  std::array<Table, 3> tables;
  for (size_t c = 0; c < 3; ++c) {
    int64_t last = 0, total = 0;
    for (const int64_t count : counts[c]) {
      total += count;
      if (count > 0) last = count;
    }
    const int64_t step = (total - last) / 255;
    int64_t below = step / 2;
    for (size_t byte = 0; byte < 256; ++byte) {
      tables[c][byte] = step == 0 ? static_cast<uint8_t>(byte) : static_cast<uint8_t>(std::min<int64_t>(255, below / step));
      below += counts[c][byte];
    }
  }
  map_channels(picture, tables);
}

// other + factor x (picture - other), cut to bytes.
template <class Other>
void blend(Picture& picture, double factor, const Other& other) {
  for (size_t i = 0; i < picture.pixels.size(); ++i) {
    const double from = other(i);
    picture.pixels[i] = byte_of(from + factor * (picture.pixels[i] - from));
  }
}

void colour(Picture& picture, double factor) {
  const std::vector<uint8_t> pixels = picture.pixels;
  uint8_t grey = 0;
  blend(picture, factor, [&](size_t i) {
    if (i % 3 == 0) grey = grey_of(&pixels[i]);
    return grey;
  });
}

void contrast(Picture& picture, double factor) {
  double sum = 0;
  for (size_t i = 0; i < picture.pixels.size(); i += 3) sum += grey_of(&picture.pixels[i]);
  const double mean = std::floor(sum / (static_cast<double>(picture.pixels.size()) / 3));
  blend(picture, factor, [&](size_t) { return mean; });
}

// Against the picture smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; pixels of the border stay.
void sharpness(Picture& picture, double factor) {
  const Picture original = picture;
  for (int64_t y = 1; y + 1 < picture.height; ++y) {
    uint8_t* to = picture.row(y);
    for (int64_t i = 3; i < 3 * (picture.width - 1); ++i) {
      int sum = 4 * original.row(y)[i];
      for (int64_t down = -1; down <= 1; ++down) {
        const uint8_t* row = original.row(y + down);
        sum += row[i - 3] + row[i] + row[i + 3];
      }
      const double smooth = std::floor(sum / 13.0);
      to[i] = byte_of(smooth + factor * (to[i] - smooth));
    }
  }
}

// What a pixel (x, y) shows lies at (a x + b y + c, d x + e y + f): the nearest pixel, grey outside.
struct Affine {
  double a = 1, b = 0, c = 0, d = 0, e = 1, f = 0;
};

void transform(Picture& picture, const Affine& map) {
  const Picture original = picture;
  for (int64_t y = 0; y < picture.height; ++y) {
    for (int64_t x = 0; x < picture.width; ++x) {
      const auto px = static_cast<double>(x), py = static_cast<double>(y);
      const int64_t from_x = std::llround(map.a * px + map.b * py + map.c), from_y = std::llround(map.d * px + map.e * py + map.f);
      uint8_t* to = picture.row(y) + 3 * x;
      if (from_x < 0 || from_x >= picture.width || from_y < 0 || from_y >= picture.height) {
        std::fill_n(to, 3, kGrey);
      } else {
        std::copy_n(original.row(from_y) + 3 * from_x, 3, to);
      }
    }
  }
}

void rotate(Picture& picture, double degrees) {
  const double angle = degrees * std::numbers::pi / 180, cosine = std::cos(angle), sine = std::sin(angle);
  const double x = static_cast<double>(picture.width - 1) / 2, y = static_cast<double>(picture.height - 1) / 2;
  transform(picture, {cosine, -sine, x - cosine * x + sine * y, sine, cosine, y - sine * x - cosine * y});
}

void cutout(Picture& picture, int64_t half, CounterRng& random) {
  const auto y = static_cast<int64_t>(random.below(static_cast<uint64_t>(picture.height)));
  const auto x = static_cast<int64_t>(random.below(static_cast<uint64_t>(picture.width)));
  const int64_t left = std::max<int64_t>(0, x - half), right = std::min(picture.width, x + half);
  for (int64_t row = std::max<int64_t>(0, y - half); row < std::min(picture.height, y + half); ++row) {
    if (right > left) std::fill_n(picture.row(row) + 3 * left, 3 * (right - left), kGrey);
  }
}

}  // namespace

void distort(Picture& picture, Distortion distortion, double level, CounterRng& random) {
  ADATAPE_CHECK(picture.height >= 1 && picture.width >= 1 && level >= 0, "augmentation", "expected a picture and a level >= 0, got ",
                picture.width, " x ", picture.height, " and ", level);
  const double share = level / 10, enhance = 0.1 + 1.8 * share;
  const auto either = [&](double value) { return random.below(2) == 1 ? -value : value; };
  const auto height = static_cast<double>(picture.height), width = static_cast<double>(picture.width);
  switch (distortion) {
    case Distortion::kAutoContrast:
      return auto_contrast(picture);
    case Distortion::kEqualize:
      return equalize(picture);
    case Distortion::kInvert:
      return map_bytes(picture, [](int byte) { return static_cast<uint8_t>(255 - byte); });
    case Distortion::kRotate:
      return rotate(picture, either(30 * share));
    case Distortion::kPosterize: {
      const int lost = 8 - std::min(8, static_cast<int>(4 * share));
      return map_bytes(picture, [&](int byte) { return static_cast<uint8_t>(byte >> lost << lost); });
    }
    case Distortion::kSolarize: {
      const int from = static_cast<int>(256 * share);
      return map_bytes(picture, [&](int byte) { return static_cast<uint8_t>(byte < from ? byte : 255 - byte); });
    }
    case Distortion::kColour:
      return colour(picture, enhance);
    case Distortion::kContrast:
      return contrast(picture, enhance);
    case Distortion::kBrightness:
      return blend(picture, enhance, [](size_t) { return 0.0; });
    case Distortion::kSharpness:
      return sharpness(picture, enhance);
    case Distortion::kShearX:
      return transform(picture, {.b = either(0.3 * share)});
    case Distortion::kShearY:
      return transform(picture, {.d = either(0.3 * share)});
    case Distortion::kTranslateX:
      return transform(picture, {.c = either(100 / kUsualSide * width * share)});
    case Distortion::kTranslateY:
      return transform(picture, {.f = either(100 / kUsualSide * height * share)});
    case Distortion::kCutout:
      return cutout(picture, static_cast<int64_t>(40 / kUsualSide * std::min(height, width) * share), random);
    case Distortion::kSolarizeAdd: {
      const int addition = static_cast<int>(110 * share);
      return map_bytes(picture, [&](int byte) { return static_cast<uint8_t>(byte < 128 ? std::min(255, byte + addition) : byte); });
    }
  }
}

void rand_augment(Picture& picture, int64_t layers, double level, CounterRng& random) {
  for (int64_t layer = 0; layer < layers; ++layer) {
    distort(picture, static_cast<Distortion>(random.below(kDistortions)), level, random);
  }
}

}  // namespace adatape
