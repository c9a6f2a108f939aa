#include "adatape/data/resample.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "adatape/core/check.h"

namespace adatape {
namespace {

// What each of `to` places reads from a line of `from` places: weights of neighbours that begin at first[i].
struct Taps {
  std::vector<int64_t> first, count;
  std::vector<float> weights;  // [to, most]
  int64_t most = 0;
};

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

double cubic(double x) {  // Keys, a = -0.5, as Pillow and ATen's anti-aliased form have it
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

Taps taps_of(int64_t from, int64_t to, Interpolation interpolation) {
  const bool linear = interpolation == Interpolation::kBilinear;
  const double scale = static_cast<double>(from) / static_cast<double>(to), stretch = std::max(scale, 1.0);
  const double support = (linear ? 1.0 : 2.0) * stretch;
  Taps taps;
  taps.most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(static_cast<size_t>(to * taps.most));
  for (int64_t i = 0; i < to; ++i) {
    const double centre = scale * (static_cast<double>(i) + 0.5);
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const int64_t count = std::min(static_cast<int64_t>(centre + support + 0.5), from) - first;
    float* weights = taps.weights.data() + i * taps.most;
    double total = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double x = (static_cast<double>(first + k) - centre + 0.5) / stretch, weight = linear ? triangle(x) : cubic(x);
      weights[k] = static_cast<float>(weight);
      total += weight;
    }
    for (int64_t k = 0; k < count; ++k) weights[k] = static_cast<float>(weights[k] / total);
    taps.first.push_back(first);
    taps.count.push_back(count);
  }
  return taps;
}

uint8_t rounded(float value) { return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f) + 0.5f); }

}  // namespace

// Rows first: their inner loop runs along contiguous memory.
Picture resample(const Picture& picture, const Box& part, int64_t height, int64_t width, Interpolation interpolation) {
  ADATAPE_CHECK(part.top >= 0 && part.left >= 0 && part.height >= 1 && part.width >= 1 && part.top + part.height <= picture.height &&
                    part.left + part.width <= picture.width && height >= 1 && width >= 1,
                "resample", "expected a part within ", picture.width, " x ", picture.height, " pixels and a size, got ", part.width, " x ",
                part.height, " at ", part.left, ", ", part.top, " to ", width, " x ", height);
  const Taps down = taps_of(part.height, height, interpolation), along = taps_of(part.width, width, interpolation);
  const auto line = static_cast<size_t>(part.width * 3);
  std::vector<float> sums(line);
  Picture resized(height, width);
  for (int64_t y = 0; y < height; ++y) {
    const float* weights = down.weights.data() + y * down.most;
    for (int64_t k = 0; k < down.count[static_cast<size_t>(y)]; ++k) {
      const uint8_t* from = picture.row(part.top + down.first[static_cast<size_t>(y)] + k) + part.left * 3;
      const float weight = weights[k];
      float* sum = sums.data();
      if (k == 0) {
        for (size_t i = 0; i < line; ++i) sum[i] = weight * static_cast<float>(from[i]);
      } else {
        for (size_t i = 0; i < line; ++i) sum[i] += weight * static_cast<float>(from[i]);
      }
    }
    uint8_t* to = resized.row(y);
    for (int64_t x = 0; x < width; ++x, to += 3) {
      const float* column = along.weights.data() + x * along.most;
      const float* from = sums.data() + along.first[static_cast<size_t>(x)] * 3;
      float red = 0, green = 0, blue = 0;
      for (int64_t k = 0; k < along.count[static_cast<size_t>(x)]; ++k, from += 3) {
        red += column[k] * from[0];
        green += column[k] * from[1];
        blue += column[k] * from[2];
      }
      to[0] = rounded(red);
      to[1] = rounded(green);
      to[2] = rounded(blue);
    }
  }
  return resized;
}

}  // namespace adatape
