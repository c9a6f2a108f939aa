#include "adatape/analysis/canvas.h"

#include <algorithm>
#include <cmath>

namespace adatape {

Rgb rgb_of(const std::string& hex) {
  return {static_cast<double>(std::stoi(hex.substr(1, 2), nullptr, 16)), static_cast<double>(std::stoi(hex.substr(3, 2), nullptr, 16)),
          static_cast<double>(std::stoi(hex.substr(5, 2), nullptr, 16))};
}

void Canvas::blend(const Box& box, const Rgb& colour, double amount) {
  for (int64_t y = std::max<int64_t>(0, box.top); y < std::min(picture.height, box.top + box.height); ++y) {
    for (int64_t x = std::max<int64_t>(0, box.left); x < std::min(picture.width, box.left + box.width); ++x) {
      uint8_t* pixel = picture.row(y) + 3 * x;
      for (size_t c = 0; c < 3; ++c) pixel[c] = static_cast<uint8_t>(std::lround(pixel[c] + amount * (colour[c] - pixel[c])));
    }
  }
}

void Canvas::outline(const Box& box, const Rgb& colour, int64_t line) {
  blend({box.top, box.left, line, box.width}, colour, 1);
  blend({box.top + box.height - line, box.left, line, box.width}, colour, 1);
  blend({box.top, box.left, box.height, line}, colour, 1);
  blend({box.top, box.left + box.width - line, box.height, line}, colour, 1);
}

void Canvas::copy(const Picture& from, int64_t top, int64_t left) {
  const int64_t first_y = std::max<int64_t>(0, -top), first_x = std::max<int64_t>(0, -left);
  const int64_t last_y = std::min(from.height, picture.height - top), last_x = std::min(from.width, picture.width - left);
  if (last_x <= first_x) return;
  for (int64_t y = first_y; y < last_y; ++y)
    std::copy_n(from.row(y) + 3 * first_x, 3 * (last_x - first_x), picture.row(top + y) + 3 * (left + first_x));
}

void Canvas::stroke(double y0, double x0, double y1, double x1, double width, const Rgb& colour) {
  const double reach = width / 2 + 1, dy = y1 - y0, dx = x1 - x0, length = dy * dy + dx * dx;
  const auto low = [&](double a, double b) { return static_cast<int64_t>(std::floor(std::min(a, b) - reach)); };
  const auto size = [&](double a, double b) { return static_cast<int64_t>(std::ceil(std::abs(a - b) + 2 * reach)) + 1; };
  for (int64_t y = low(y0, y1); y < low(y0, y1) + size(y0, y1); ++y) {
    for (int64_t x = low(x0, x1); x < low(x0, x1) + size(x0, x1); ++x) {
      const double py = static_cast<double>(y) + 0.5 - y0, px = static_cast<double>(x) + 0.5 - x0;
      const double along = length > 0 ? std::clamp((py * dy + px * dx) / length, 0.0, 1.0) : 0;
      const double distance = std::hypot(py - along * dy, px - along * dx);
      blend({y, x, 1, 1}, colour, std::clamp(width / 2 + 0.5 - distance, 0.0, 1.0));
    }
  }
}

void Canvas::text(const std::string& letters, int64_t top, int64_t left, int64_t dot, const Rgb& colour, bool upwards) {
  const int64_t bottom = top + text_length(letters.size(), dot) - dot;
  for (size_t i = 0; i < letters.size(); ++i) {
    for (int64_t row = 0; row < kGlyphRows; ++row) {
      for (int64_t column = 0; column < kGlyphColumns; ++column) {
        if (!glyph_dot(letters[i], row, column)) continue;
        const int64_t across = row * dot, along = (static_cast<int64_t>(i) * kGlyphAdvance + column) * dot;
        blend(upwards ? Box{bottom - along, left + across, dot, dot} : Box{top + across, left + along, dot, dot}, colour, 1);
      }
    }
  }
}

}  // namespace adatape
