#include "adatape/data/inception_crop.h"

#include <algorithm>
#include <cmath>

namespace adatape {
namespace {

constexpr double kNarrowest = 3.0 / 4, kWidest = 4.0 / 3;
constexpr int kAttempts = 100;

}  // namespace

Box inception_crop(int64_t height, int64_t width, double smallest_share, CounterRng& random) {
  const double area = static_cast<double>(height) * static_cast<double>(width);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const double ratio = kNarrowest + (kWidest - kNarrowest) * random.uniform();
    const int64_t by_area = std::llround(std::sqrt(area / ratio));
    const auto by_width = static_cast<int64_t>((static_cast<double>(width) + 0.49) / ratio);
    const int64_t largest = std::min({height, by_area, by_width});
    const auto smallest = std::max<int64_t>(1, std::llround(std::sqrt(smallest_share * area / ratio)));
    if (smallest > largest) continue;
    Box part;
    part.height = smallest + static_cast<int64_t>(random.below(static_cast<uint64_t>(largest - smallest + 1)));
    part.width = std::clamp<int64_t>(std::llround(static_cast<double>(part.height) * ratio), 1, width);
    part.top = static_cast<int64_t>(random.below(static_cast<uint64_t>(height - part.height + 1)));
    part.left = static_cast<int64_t>(random.below(static_cast<uint64_t>(width - part.width + 1)));
    return part;
  }
  Box part;
  part.height = std::clamp<int64_t>(std::llround(static_cast<double>(width) / kNarrowest), 1, height);
  part.width = std::clamp<int64_t>(std::llround(static_cast<double>(height) * kWidest), 1, width);
  part.top = (height - part.height) / 2;
  part.left = (width - part.width) / 2;
  return part;
}

}  // namespace adatape
