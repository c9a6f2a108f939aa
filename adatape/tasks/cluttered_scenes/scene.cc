#include "adatape/tasks/cluttered_scenes/scene.h"

#include <algorithm>
#include <cmath>

#include "adatape/core/rng.h"

namespace adatape {
namespace {

constexpr int kTriesForAPiece = 8;

// Share of a square's pixels that are not black.
double filled_share(const uint8_t* image, int64_t width, int64_t top, int64_t left, int64_t side) {
  int64_t filled = 0;
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) filled += image[(top + y) * width + left + x] > 0;
  }
  return static_cast<double>(filled) / static_cast<double>(side * side);
}

void paste_piece(const LabelledImages& images, int64_t garment, const SceneShape& shape, CounterRng& random, std::vector<uint8_t>& canvas) {
  const auto place_in = [&](int64_t room) { return static_cast<int64_t>(random.below(static_cast<uint64_t>(room))); };
  const int64_t side = shape.smallest_piece + place_in(shape.largest_piece - shape.smallest_piece + 1);
  const int64_t to_top = place_in(shape.canvas - side + 1), to_left = place_in(shape.canvas - side + 1);
  const uint8_t* image = nullptr;
  int64_t top = 0, left = 0;
  for (int tries = 0; tries < kTriesForAPiece; ++tries) {  // a piece of black is no clutter
    int64_t other = place_in(images.size());
    if (other == garment) other = (other + 1) % images.size();
    image = images.image(other);
    top = place_in(images.height - side + 1);
    left = place_in(images.width - side + 1);
    if (filled_share(image, images.width, top, left, side) >= 0.5) break;
  }
  for (int64_t y = 0; y < side; ++y) {
    const uint8_t* from = image + (top + y) * images.width + left;
    uint8_t* to = canvas.data() + (to_top + y) * shape.canvas + to_left;
    for (int64_t x = 0; x < side; ++x) {
      if (from[x] > 0) to[x] = from[x];
    }
  }
}

// The image at another size, bilinear with pixel centres aligned.
std::vector<uint8_t> scaled(const uint8_t* image, int64_t height, int64_t width, int64_t to_height, int64_t to_width) {
  std::vector<uint8_t> result(static_cast<size_t>(to_height * to_width));
  const double step_y = static_cast<double>(height) / static_cast<double>(to_height),
               step_x = static_cast<double>(width) / static_cast<double>(to_width);
  for (int64_t y = 0; y < to_height; ++y) {
    const double at_y = std::clamp((static_cast<double>(y) + 0.5) * step_y - 0.5, 0.0, static_cast<double>(height - 1));
    const auto y0 = static_cast<int64_t>(at_y), y1 = std::min(y0 + 1, height - 1);
    const double wy = at_y - static_cast<double>(y0);
    for (int64_t x = 0; x < to_width; ++x) {
      const double at_x = std::clamp((static_cast<double>(x) + 0.5) * step_x - 0.5, 0.0, static_cast<double>(width - 1));
      const auto x0 = static_cast<int64_t>(at_x), x1 = std::min(x0 + 1, width - 1);
      const double wx = at_x - static_cast<double>(x0);
      const double above = (1 - wx) * image[y0 * width + x0] + wx * image[y0 * width + x1];
      const double below = (1 - wx) * image[y1 * width + x0] + wx * image[y1 * width + x1];
      result[static_cast<size_t>(y * to_width + x)] = static_cast<uint8_t>(std::lround((1 - wy) * above + wy * below));
    }
  }
  return result;
}

}  // namespace

Box draw_scene(const LabelledImages& images, int64_t garment, const SceneShape& shape, uint64_t seed, uint64_t stream, uint64_t scene,
               float* pixels) {
  CounterRng random(seed, stream, site(Site::kAugment), scene);
  std::vector<uint8_t> canvas(static_cast<size_t>(shape.canvas * shape.canvas), 0);
  for (int64_t i = 0; i < shape.pieces; ++i) paste_piece(images, garment, shape, random, canvas);

  const double scale = shape.smallest_scale + random.uniform() * (shape.largest_scale - shape.smallest_scale);
  const auto size_of = [&](int64_t side) { return std::clamp<int64_t>(std::lround(scale * static_cast<double>(side)), 1, shape.canvas); };
  const int64_t height = size_of(images.height), width = size_of(images.width);
  const std::vector<uint8_t> image = scaled(images.image(garment), images.height, images.width, height, width);
  const auto top = static_cast<int64_t>(random.below(static_cast<uint64_t>(shape.canvas - height + 1)));
  const auto left = static_cast<int64_t>(random.below(static_cast<uint64_t>(shape.canvas - width + 1)));
  int64_t first_y = height, last_y = -1, first_x = width, last_x = -1;
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      const uint8_t value = image[static_cast<size_t>(y * width + x)];
      if (value == 0) continue;
      canvas[static_cast<size_t>((top + y) * shape.canvas + left + x)] = value;
      first_y = std::min(first_y, y);
      last_y = y;
      first_x = std::min(first_x, x);
      last_x = std::max(last_x, x);
    }
  }
  for (size_t i = 0; i < canvas.size(); ++i) pixels[i] = static_cast<float>(canvas[i]) / 127.5f - 1.0f;
  if (last_y < 0) return {top, left, height, width};  // a black image
  return {top + first_y, left + first_x, last_y - first_y + 1, last_x - first_x + 1};
}

}  // namespace adatape
