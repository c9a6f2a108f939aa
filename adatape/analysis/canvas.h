// Drawing on a picture: boxes, lines, discs and text.
#pragma once

#include <array>
#include <string>

#include "adatape/analysis/bitmap_font.h"
#include "adatape/data/picture.h"

namespace adatape {

using Rgb = std::array<double, 3>;                                 // 0 .. 255
inline constexpr Rgb kInk = {29, 35, 43}, kSoft = {91, 101, 114};  // of text, and of what stands back

Rgb rgb_of(const std::string& hex);  // "#rrggbb"

// Whatever lies outside the picture is left out.
class Canvas {
 public:
  Canvas(int64_t height, int64_t width) : picture(height, width, 255) {}

  // Brings the pixels of a box towards a colour: 0 leaves them, 1 paints.
  void blend(const Box& box, const Rgb& colour, double amount);
  // `line` pixels wide, within the box.
  void outline(const Box& box, const Rgb& colour, int64_t line);
  void copy(const Picture& from, int64_t top, int64_t left);

  // Smooth, by the share of a pixel that is covered; pixel (y, x) has its middle at y + 0.5, x + 0.5. A stroke has round ends; one of no
  // length is a disc.
  void stroke(double y0, double x0, double y1, double x1, double width, const Rgb& colour);

  // Letters of drawable() with dots of `dot` pixels; upwards: turned to the left, so that it begins at the bottom. The place is the upper
  // left corner of the whole.
  void text(const std::string& letters, int64_t top, int64_t left, int64_t dot, const Rgb& colour, bool upwards = false);

  Picture picture;
};

inline constexpr int64_t kDot = 2, kLine = kGlyphRows * kDot;  // of text

constexpr int64_t text_length(size_t letters, int64_t dot) {
  return letters == 0 ? 0 : (static_cast<int64_t>(letters) * kGlyphAdvance - 1) * dot;
}

}  // namespace adatape
