#include "adatape/analysis/chart.h"

#include <algorithm>
#include <cmath>

#include "adatape/analysis/canvas.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"

namespace adatape {
namespace {

constexpr int64_t kPlotHeight = 420, kPlotWidth = 720;  // at least
constexpr int64_t kGap = 10, kEdge = 20;
constexpr int64_t kTurnedSlot = kLine + 8;  // a name that is turned
constexpr size_t kLongestName = 24;
const Rgb kGrid = {227, 231, 236}, kBlue = {37, 99, 235}, kLevel = {150, 158, 170};

struct Axis {
  std::vector<double> ticks;
  std::vector<std::string> texts;
  double low = 0, high = 1;
  double place(double value) const { return (value - low) / (high - low); }  // 0 .. 1
};

Axis numbers(double low, double high, int count, bool shares) {
  Axis axis;
  axis.ticks = axis_ticks(low, high, count);
  axis.texts = tick_texts(axis.ticks, shares);
  axis.low = axis.ticks.front();
  axis.high = axis.ticks.back();
  return axis;
}

int64_t longest(const std::vector<std::string>& texts) {
  size_t letters = 0;
  for (const std::string& text : texts) letters = std::max(letters, text.size());
  return text_length(letters, kDot);
}

bool is_finite(const Chart::Point& point) {
  return std::isfinite(point.x) && std::isfinite(point.y) && std::isfinite(point.deviation) && std::isfinite(point.x_deviation);
}

Axis y_axis(const Chart& chart) {
  double low = 0, high = 0;
  bool first = true;
  const auto cover = [&](double from, double to) {
    low = first ? from : std::min(low, from);
    high = first ? to : std::max(high, to);
    first = false;
  };
  for (const Chart::Point& point : chart.points)
    if (is_finite(point)) cover(point.y - point.deviation, point.y + point.deviation);
  if (chart.level && std::isfinite(*chart.level)) cover(*chart.level, *chart.level);
  if (chart.shares && !chart.tight) low = std::min(low, 0.0);
  const double margin = chart.shares ? 0.01 : 1;
  if ((!chart.shares || chart.tight) && low == high) cover(low - margin, high + margin);  // in the middle
  return numbers(low, high, 6, chart.shares);
}

Axis x_axis(const Chart& chart) {
  Axis axis;
  if (!chart.names.empty()) {
    for (size_t i = 0; i < chart.names.size(); ++i) {
      axis.ticks.push_back(static_cast<double>(i));
      axis.texts.push_back(drawable(chart.names[i], kLongestName));
    }
    axis.low = -0.5;
    axis.high = static_cast<double>(chart.names.size()) - 0.5;
    return axis;
  }
  double low = 0, high = 0;
  bool first = true;
  for (const Chart::Point& point : chart.points) {
    if (!is_finite(point)) continue;
    low = std::min(first ? point.x : low, point.x - point.x_deviation);
    high = std::max(first ? point.x : high, point.x + point.x_deviation);
    first = false;
  }
  return numbers(low, high, 6, false);
}

}  // namespace

std::vector<double> axis_ticks(double low, double high, int count) {
  if (!(high - low > 1e-9 * std::max(std::abs(low), std::abs(high)))) high = low + std::max(1.0, 1e-6 * std::abs(low));
  const double rough = (high - low) / std::max(1, count - 1), power = std::pow(10, std::floor(std::log10(rough)));
  const double step = power * (rough / power < 1.5 ? 1 : rough / power < 3.5 ? 2 : rough / power < 7.5 ? 5 : 10);
  constexpr double kRounding = 1e-6;  // 0.3 is not above 3 x 0.1
  std::vector<double> ticks;
  for (double place = std::floor(low / step + kRounding);; ++place) {
    ticks.push_back(place * step);
    if (place >= high / step - kRounding) return ticks;
  }
}

std::vector<std::string> tick_texts(const std::vector<double>& ticks, bool shares) {
  const double step = (ticks.size() > 1 ? ticks[1] - ticks[0] : 1) * (shares ? 100 : 1);
  const int decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-6)), 0, 9);
  std::vector<std::string> texts;
  for (const double tick : ticks) {
    const double shown = std::abs(tick) < 1e-12 ? 0 : tick * (shares ? 100 : 1);  // no "-0"
    texts.push_back(number_text(concat("%.", decimals, "f", shares ? " %%" : "").c_str(), shown));
  }
  return texts;
}

Picture draw_chart(const Chart& chart) {
  const Axis x = x_axis(chart), y = y_axis(chart);
  const auto count = static_cast<int64_t>(x.ticks.size());
  const bool named = !chart.names.empty(), turned = named && longest(x.texts) + kGap > kPlotWidth / count;
  const int64_t width = turned ? std::max(kPlotWidth, count * kTurnedSlot) : kPlotWidth, height = kPlotHeight;
  const int64_t left = kEdge + kLine + kGap + longest(y.texts) + kGap, top = kEdge;
  const int64_t below = top + height + kGap, names_height = turned ? longest(x.texts) : kLine;
  const int64_t bottom = below + names_height + kGap;
  const int64_t list = bottom + (chart.x_title.empty() ? 0 : kLine) + kGap;
  const auto listed = static_cast<int64_t>(std::min(chart.legend.size(), chart.points.size()));
  const int64_t list_height = listed == 0 ? 0 : kGap + listed * (kLine + kGap);
  Canvas canvas(list + list_height, std::max(left + width + 2 * kEdge, longest(chart.legend) + text_length(4, kDot) + 3 * kEdge));
  const auto at_x = [&](double value) { return static_cast<double>(left) + x.place(value) * static_cast<double>(width); };
  const auto at_y = [&](double value) { return static_cast<double>(top) + (1 - y.place(value)) * static_cast<double>(height); };

  for (size_t i = 0; i < y.ticks.size(); ++i) {
    const auto line = static_cast<int64_t>(std::lround(at_y(y.ticks[i])));
    canvas.blend({line, left, 1, width}, kGrid, 1);
    canvas.text(y.texts[i], line - kGlyphBase * kDot / 2, left - kGap - text_length(y.texts[i].size(), kDot), kDot, kSoft);
  }
  for (size_t i = 0; i < x.ticks.size(); ++i) {
    const auto line = static_cast<int64_t>(std::lround(at_x(x.ticks[i])));
    if (!named) canvas.blend({top, line, height, 1}, kGrid, 1);
    canvas.blend({top + height, line, 6, 1}, kSoft, 1);
    const int64_t middle = turned ? kGlyphBase * kDot / 2 : text_length(x.texts[i].size(), kDot) / 2;
    canvas.text(x.texts[i], below, line - middle, kDot, kSoft, turned);
  }
  canvas.blend({top + height, left, 1, width + 1}, kSoft, 1);
  canvas.blend({top, left, height, 1}, kSoft, 1);
  const auto plot_letters = [](int64_t pixels) { return static_cast<size_t>(pixels / (kGlyphAdvance * kDot)); };
  const std::string x_title = drawable(chart.x_title, plot_letters(left + width)), y_title = drawable(chart.y_title, plot_letters(bottom));
  canvas.text(x_title, bottom, std::max<int64_t>(0, left + (width - text_length(x_title.size(), kDot)) / 2), kDot, kInk);
  canvas.text(y_title, std::max<int64_t>(0, top + (height - text_length(y_title.size(), kDot)) / 2), kEdge, kDot, kInk, true);

  if (chart.level && std::isfinite(*chart.level)) {
    for (int64_t at = left; at < left + width; at += 12) {
      canvas.stroke(at_y(*chart.level), static_cast<double>(at) + 2, at_y(*chart.level), static_cast<double>(at) + 8, 2, kLevel);
    }
  }
  const Chart::Point* before = nullptr;
  for (size_t i = 0; i < chart.points.size(); ++i) {
    const Chart::Point& point = chart.points[i];
    if (!is_finite(point)) continue;
    const Rgb colour = point.colour.empty() ? kBlue : rgb_of(point.colour);
    const double px = at_x(point.x), py = at_y(point.y);
    if (chart.joined && point.on_line) {
      if (before != nullptr) canvas.stroke(at_y(before->y), at_x(before->x), py, px, 2.5, chart.legend.empty() ? kBlue : kLevel);
      before = &point;
    }
    if (point.deviation > 0) {
      const double high = at_y(point.y + point.deviation), low = at_y(point.y - point.deviation);
      canvas.stroke(high, px, low, px, 1.6, colour);
      for (const double end : {high, low}) canvas.stroke(end, px - 5, end, px + 5, 1.6, colour);
    }
    if (point.x_deviation > 0) {
      const double from = at_x(point.x - point.x_deviation), to = at_x(point.x + point.x_deviation);
      canvas.stroke(py, from, py, to, 1.6, colour);
      for (const double end : {from, to}) canvas.stroke(py - 5, end, py + 5, end, 1.6, colour);
    }
    canvas.stroke(py, px, py, px, 11, colour);
    if (i >= chart.legend.size()) continue;
    const std::string number = std::to_string(i + 1);
    const auto beside =
        static_cast<int64_t>(px) + (px + 40 > static_cast<double>(left + width) ? -10 - text_length(number.size(), kDot) : 10);
    canvas.text(number, std::max<int64_t>(0, static_cast<int64_t>(py) - 10 - kGlyphBase * kDot), beside, kDot, colour);
    const int64_t row = list + kGap + static_cast<int64_t>(i) * (kLine + kGap);
    canvas.text(number, row, kEdge, kDot, colour);
    canvas.text(drawable(chart.legend[i], chart.legend[i].size()), row, 2 * kEdge + text_length(2, kDot), kDot, kInk);
  }
  return canvas.picture;
}

}  // namespace adatape
