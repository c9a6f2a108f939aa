#include "adatape/analysis/draw_reading.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "adatape/analysis/canvas.h"
#include "adatape/analysis/reading_figures.h"

namespace adatape {
namespace {

constexpr int64_t kPatch = 24;    // side of a patch, at least: room for two digits
constexpr int64_t kPanelGap = 8;  // between panels, white
constexpr double kDarkened = 0.4;

// Digits of 3 x 5 dots; a row is three bits, the left one highest.
constexpr std::array<std::array<uint8_t, 5>, 10> kDigits = {{{7, 5, 5, 5, 7},
                                                             {2, 6, 2, 2, 7},
                                                             {7, 1, 7, 4, 7},
                                                             {7, 1, 7, 1, 7},
                                                             {5, 5, 7, 1, 1},
                                                             {7, 4, 7, 1, 7},
                                                             {7, 4, 7, 5, 7},
                                                             {7, 1, 1, 2, 2},
                                                             {7, 5, 7, 5, 7},
                                                             {7, 5, 7, 1, 7}}};

// White on a dark edge, in the middle of a box.
void draw_number(Canvas& canvas, const Box& box, size_t value) {
  const std::string text = std::to_string(value);
  const auto columns = static_cast<int64_t>(4 * text.size()) - 1;
  const int64_t dot = std::max<int64_t>(1, std::min(box.width / (columns + 3), box.height / 9));
  const int64_t top = box.top + (box.height - 5 * dot) / 2, left = box.left + (box.width - columns * dot) / 2;
  for (const bool edge : {true, false}) {
    for (size_t i = 0; i < text.size(); ++i) {
      for (int64_t y = 0; y < 5; ++y) {
        for (int64_t x = 0; x < 3; ++x) {
          if ((kDigits[static_cast<size_t>(text[i] - '0')][static_cast<size_t>(y)] >> (2 - x) & 1) == 0) continue;
          const Box square{top + y * dot, left + (4 * static_cast<int64_t>(i) + x) * dot, dot, dot};
          if (edge) {
            canvas.blend({square.top - 1, square.left - 1, dot + 2, dot + 2}, {0, 0, 0}, 1);
          } else {
            canvas.blend(square, {255, 255, 255}, 1);
          }
        }
      }
    }
  }
}

void enlarge(const Picture& from, int64_t scale, Picture& to, int64_t left) {
  for (int64_t y = 0; y < from.height * scale; ++y) {
    for (int64_t x = 0; x < from.width * scale; ++x) std::copy_n(from.row(y / scale) + 3 * (x / scale), 3, to.row(y) + 3 * (left + x));
  }
}

void draw_reading(Canvas& canvas, const Box& panel, const Picture& view, const ExampleReading& reading) {
  const int64_t rows = reading.resolution > 0 ? reading.resolution : view.height,
                columns = reading.resolution > 0 ? reading.resolution : view.width, patches = std::max<int64_t>(1, columns / reading.patch);
  canvas.blend(panel, {0, 0, 0}, 1 - kDarkened);
  const Picture dark = canvas.picture;
  for (size_t t = 0; t < reading.steps.size(); ++t) {
    const Rgb colour = rgb_of(step_colour(t, reading.steps.size()));
    const ReadingStep& step = reading.steps[t];
    for (size_t k = 0; k < step.rows.size(); ++k) {
      const int64_t y = step.rows[k] / patches * reading.patch, x = step.rows[k] % patches * reading.patch;
      const int64_t top = y * panel.height / rows, bottom = (y + reading.patch) * panel.height / rows;
      const int64_t left = x * panel.width / columns, right = (x + reading.patch) * panel.width / columns;
      const Box box{panel.top + top, panel.left + left, bottom - top, right - left};
      for (int64_t line = box.top; line < box.top + box.height; ++line) {  // back to full light, then shaded
        const uint8_t* from = dark.row(line) + 3 * box.left;
        uint8_t* to = canvas.picture.row(line) + 3 * box.left;
        for (int64_t i = 0; i < 3 * box.width; ++i) to[i] = static_cast<uint8_t>(std::min(255L, std::lround(from[i] / kDarkened)));
      }
      canvas.blend(box, colour, 0.1 + 0.6 * step.weights[k]);
      canvas.outline(box, colour, std::max<int64_t>(1, box.width / 24));
      draw_number(canvas, box, t + 1);
    }
  }
}

}  // namespace

Picture draw_readings(const Picture& view, const std::vector<ExampleReading>& readings, int64_t least_side) {
  std::vector<const ExampleReading*> places;
  int64_t scale = (least_side + std::min(view.height, view.width) - 1) / std::min(view.height, view.width);
  for (const ExampleReading& reading : readings) {
    if (reading.learnable) continue;
    places.push_back(&reading);
    const auto shorter = static_cast<double>(std::min(view.height, view.width));
    const double side =
        static_cast<double>(reading.patch) * (reading.resolution > 0 ? shorter / static_cast<double>(reading.resolution) : 1);
    scale = std::max(scale, static_cast<int64_t>(std::ceil(kPatch / side)));
  }
  const int64_t height = view.height * scale, width = view.width * scale;
  Canvas canvas(height, static_cast<int64_t>(places.size() + 1) * (width + kPanelGap) - kPanelGap);
  for (size_t i = 0; i <= places.size(); ++i) {
    const int64_t left = static_cast<int64_t>(i) * (width + kPanelGap);
    enlarge(view, scale, canvas.picture, left);
    if (i > 0) draw_reading(canvas, {0, left, height, width}, view, *places[i - 1]);
  }
  return canvas.picture;
}

}  // namespace adatape
