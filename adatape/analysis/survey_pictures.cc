#include "adatape/analysis/survey_pictures.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "adatape/analysis/canvas.h"
#include "adatape/analysis/draw_reading.h"
#include "adatape/analysis/survey_charts.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/data/write_png.h"

namespace adatape {
namespace {

constexpr int64_t kPictureGap = 8;
constexpr int64_t kHeatmapSide = 480, kClassSide = 160, kExampleSide = 280;
constexpr std::array<Rgb, 5> kHeat = {{{12, 7, 60}, {87, 16, 110}, {188, 55, 84}, {249, 142, 9}, {252, 255, 164}}};

Rgb heat(double share) {
  const double place = std::clamp(share, 0.0, 1.0) * (kHeat.size() - 1);
  const size_t from = std::min(static_cast<size_t>(place), kHeat.size() - 2);
  Rgb colour{};
  for (size_t c = 0; c < 3; ++c) colour[c] = kHeat[from][c] + (place - static_cast<double>(from)) * (kHeat[from + 1][c] - kHeat[from][c]);
  return colour;
}

// Each example's number, class and tape above what was read of it.
std::vector<Picture> example_pictures(const ReadingSurvey& survey, const std::vector<ShownExample>& examples) {
  std::vector<Picture> pictures;
  for (const ShownExample& example : examples) {
    if (example.picture.height == 0) continue;
    size_t tokens = 0;
    for (const ExampleReading& reading : example.readings) tokens += reading.steps.size();
    const std::string answer = example.answer == example.label ? "" : concat(", taken for ", class_name(survey, example.answer));
    pictures.push_back(with_title(draw_readings(example.picture, example.readings, kExampleSide),
                                  concat(example.index, ": ", class_name(survey, example.label), answer, ", ", counted(tokens, "token"))));
  }
  return pictures;
}

}  // namespace

Picture heatmap_picture(const BankGrid& grid, const std::vector<double>& values, double largest, int64_t side) {
  const double rows = grid.patch_height * static_cast<double>(grid.rows), columns = grid.patch_width * static_cast<double>(grid.columns);
  const auto of_side = [&](double length) { return std::max<int64_t>(1, std::llround(static_cast<double>(side) * length)); };
  Picture picture(of_side(rows / std::max(rows, columns)), of_side(columns / std::max(rows, columns)));
  for (int64_t y = 0; y < picture.height; ++y) {
    for (int64_t x = 0; x < picture.width; ++x) {
      const auto row = static_cast<size_t>(y * grid.rows / picture.height * grid.columns + x * grid.columns / picture.width);
      const Rgb colour = heat(largest > 0 && row < values.size() ? values[row] / largest : 0);
      for (size_t c = 0; c < 3; ++c) picture.row(y)[static_cast<size_t>(3 * x) + c] = static_cast<uint8_t>(std::lround(colour[c]));
    }
  }
  return picture;
}

Picture with_colour_bar(const Picture& picture, double largest, const std::string& title) {
  constexpr int64_t kBar = 18, kEdge = kLine / 2;
  const std::vector<double> ticks = axis_ticks(0, largest, 5);
  const std::vector<std::string> texts = tick_texts(ticks, true);
  int64_t widest = 0;
  for (const std::string& text : texts) widest = std::max(widest, text_length(text.size(), kDot));
  const int64_t bar = kEdge + picture.width + 2 * kPictureGap, numbers = bar + kBar + kPictureGap, name = numbers + widest + kPictureGap;
  const std::string letters = drawable(title, title.size());
  const int64_t title_height = text_length(letters.size(), kDot);
  Canvas canvas(std::max(picture.height, title_height) + 2 * kEdge, name + kLine + kEdge);
  canvas.copy(picture, kEdge, kEdge);
  for (int64_t y = 0; y < picture.height; ++y) {
    canvas.blend({kEdge + y, bar, 1, kBar}, heat(1 - (static_cast<double>(y) + 0.5) / static_cast<double>(picture.height)), 1);
  }
  for (size_t i = 0; i < ticks.size(); ++i) {
    if (ticks[i] > largest && i > 0) continue;
    const double place = largest > 0 ? 1 - ticks[i] / largest : 1;
    const auto line = kEdge + std::lround(place * static_cast<double>(picture.height - 1));
    canvas.blend({line, bar + kBar, 1, 4}, kSoft, 1);
    canvas.text(texts[i], line - kGlyphBase * kDot / 2, numbers, kDot, kSoft);
  }
  canvas.text(letters, (canvas.picture.height - title_height) / 2, name, kDot, kInk, true);
  return canvas.picture;
}

Picture with_title(const Picture& picture, const std::string& title) {
  const auto room = [&](int64_t dot) { return static_cast<size_t>((picture.width + dot) / (kGlyphAdvance * dot)); };
  const std::string whole = drawable(title, title.size());
  const int64_t dot = whole.size() <= room(kDot) ? kDot : 1;
  Canvas canvas(picture.height + kLine + 4, picture.width);
  canvas.text(drawable(title, room(dot)), (kDot - dot) * kGlyphBase, 0, dot, kInk);
  canvas.copy(picture, kLine + 4, 0);
  return canvas.picture;
}

Picture montage(const std::vector<Picture>& pictures, int64_t columns) {
  if (pictures.empty()) return Picture(1, 1, 255);
  const int64_t height = pictures.front().height, width = pictures.front().width, count = static_cast<int64_t>(pictures.size());
  const int64_t across = std::min(columns, count), lines = (count + across - 1) / across;
  Canvas whole(lines * (height + kPictureGap) + kPictureGap, across * (width + kPictureGap) + kPictureGap);
  for (int64_t i = 0; i < count; ++i) {
    const Picture& one = pictures[static_cast<size_t>(i)];
    ADATAPE_CHECK(one.height == height && one.width == width, "montage", "expected pictures of ", height, " x ", width, ", got ",
                  one.height, " x ", one.width);
    whole.copy(one, kPictureGap + i / across * (height + kPictureGap), kPictureGap + i % across * (width + kPictureGap));
  }
  return whole.picture;
}

std::vector<std::string> write_survey_pictures(const ReadingSurvey& survey, const std::string& folder) {
  std::vector<std::string> names;
  const auto write = [&](const std::string& name, const Picture& picture) {
    write_png(folder + "/" + name, picture);
    names.push_back(name);
  };
  write("length_by_class.png", draw_chart(length_by_class(survey)));
  write("length_by_loss.png", draw_chart(length_by_difficulty(survey, Difficulty::kLoss)));
  write("length_by_margin.png", draw_chart(length_by_difficulty(survey, Difficulty::kMargin)));
  for (const ReaderSurvey& reader : survey.readers) {
    if (!reader.grid) continue;
    const std::string prefix = concat("reader_", reader.reader, "_");
    const double most = *std::max_element(reader.read.begin(), reader.read.end());
    write(prefix + "heatmap.png",
          with_colour_bar(heatmap_picture(*reader.grid, reader.read, most, kHeatmapSide), most, "share of the examples"));
    write(prefix + "centre.png", draw_chart(centre_bias(reader)));
    double largest = 0;
    for (const std::vector<double>& values : reader.by_class) {
      for (const double value : values) largest = std::max(largest, value);
    }
    std::vector<Picture> classes;
    for (size_t c = 0; c < reader.by_class.size(); ++c) {
      classes.push_back(
          with_title(heatmap_picture(*reader.grid, reader.by_class[c], largest, kClassSide), class_name(survey, static_cast<int64_t>(c))));
    }
    write(prefix + "classes.png", with_colour_bar(montage(classes, 5), largest, "share of the class"));
  }
  for (const auto& [name, examples] : {std::pair{"shortest.png", &survey.shortest}, std::pair{"longest.png", &survey.longest}}) {
    const std::vector<Picture> pictures = example_pictures(survey, *examples);
    if (!pictures.empty()) write(name, montage(pictures, 2));
  }
  return names;
}

}  // namespace adatape
