#include "adatape/analysis/survey_pictures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

#include "adatape/analysis/reading_figures.h"
#include "adatape/core/check.h"
#include "adatape/data/write_png.h"

namespace adatape {
namespace {

using Rgb = std::array<double, 3>;
constexpr std::array<Rgb, 5> kHeat = {{{12, 7, 60}, {87, 16, 110}, {188, 55, 84}, {249, 142, 9}, {252, 255, 164}}};

Rgb heat(double share) {
  const double place = std::clamp(share, 0.0, 1.0) * (kHeat.size() - 1);
  const size_t from = std::min(static_cast<size_t>(place), kHeat.size() - 2);
  Rgb colour{};
  for (size_t c = 0; c < 3; ++c) colour[c] = kHeat[from][c] + (place - static_cast<double>(from)) * (kHeat[from + 1][c] - kHeat[from][c]);
  return colour;
}

Rgb parsed(const std::string& hex) {  // "#rrggbb"
  const long value = std::strtol(hex.c_str() + 1, nullptr, 16);
  return {static_cast<double>(value >> 16 & 255), static_cast<double>(value >> 8 & 255), static_cast<double>(value & 255)};
}

void blend(uint8_t* pixel, const Rgb& colour, double opacity) {
  for (size_t c = 0; c < 3; ++c) pixel[c] = static_cast<uint8_t>(std::lround((1 - opacity) * pixel[c] + opacity * colour[c]));
}

// The image, enlarged without smoothing so that its pixels can be counted.
Picture enlarged(const at::Tensor& image, int64_t side) {
  const at::Tensor bytes = ((image + 1) * 127.5).round().clamp(0, 255).to(at::kByte).contiguous();
  const int64_t channels = bytes.size(0), height = bytes.size(1), width = bytes.size(2);
  Picture picture(side, side);
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      for (int64_t c = 0; c < 3; ++c) {
        const int64_t place = (std::min(c, channels - 1) * height + y * height / side) * width + x * width / side;
        picture.row(y)[3 * x + c] = bytes.const_data_ptr<uint8_t>()[place];
      }
    }
  }
  return picture;
}

}  // namespace

Picture heatmap_picture(const BankGrid& grid, const std::vector<double>& values, double largest, int64_t side) {
  Picture picture(side, side);
  for (int64_t y = 0; y < side; ++y) {
    for (int64_t x = 0; x < side; ++x) {
      const auto row = static_cast<size_t>(y * grid.rows / side * grid.columns + x * grid.columns / side);
      blend(picture.row(y) + 3 * x, heat(largest > 0 && row < values.size() ? values[row] / largest : 0), 1);
    }
  }
  return picture;
}

Picture reading_picture(const ShownExample& example, int64_t side) {
  Picture picture = enlarged(example.image, side);
  const auto reading =
      std::find_if(example.readings.begin(), example.readings.end(), [](const ExampleReading& one) { return !one.learnable; });
  if (reading == example.readings.end()) return picture;
  const int64_t height = reading->resolution > 0 ? reading->resolution : example.image.size(1);
  const int64_t width = reading->resolution > 0 ? reading->resolution : example.image.size(2);
  const int64_t columns = std::max<int64_t>(1, width / reading->patch);
  for (size_t t = 0; t < reading->steps.size(); ++t) {
    const Rgb colour = parsed(step_colour(t, reading->steps.size()));
    for (size_t k = 0; k < reading->steps[t].rows.size(); ++k) {
      const int64_t row = reading->steps[t].rows[k];
      const int64_t top = row / columns * reading->patch * side / height, left = row % columns * reading->patch * side / width;
      const int64_t bottom = std::min(side, (row / columns + 1) * reading->patch * side / height),
                    right = std::min(side, (row % columns + 1) * reading->patch * side / width);
      for (int64_t y = top; y < bottom; ++y) {
        for (int64_t x = left; x < right; ++x) {
          const bool edge = y == top || x == left || y + 1 == bottom || x + 1 == right;
          blend(picture.row(y) + 3 * x, colour, edge ? 1 : 0.15 + 0.65 * reading->steps[t].weights[k]);
        }
      }
    }
  }
  return picture;
}

Picture montage(const std::vector<Picture>& pictures, int64_t columns) {
  constexpr int64_t kGap = 8;
  if (pictures.empty()) return Picture(1, 1, 255);
  const int64_t height = pictures.front().height, width = pictures.front().width, count = static_cast<int64_t>(pictures.size());
  const int64_t across = std::min(columns, count), lines = (count + across - 1) / across;
  Picture whole(lines * (height + kGap) + kGap, across * (width + kGap) + kGap, 255);
  for (int64_t i = 0; i < count; ++i) {
    const Picture& one = pictures[static_cast<size_t>(i)];
    ADATAPE_CHECK(one.height == height && one.width == width, "montage", "expected pictures of ", height, " x ", width, ", got ",
                  one.height, " x ", one.width);
    const int64_t top = kGap + i / across * (height + kGap), left = kGap + i % across * (width + kGap);
    for (int64_t y = 0; y < height; ++y) std::copy_n(one.row(y), 3 * width, whole.row(top + y) + 3 * left);
  }
  return whole;
}

std::vector<std::string> write_survey_pictures(const ReadingSurvey& survey, const std::string& folder) {
  std::vector<std::string> names;
  const auto write = [&](const std::string& name, const Picture& picture) {
    write_png(folder + "/" + name, picture);
    names.push_back(name);
  };
  for (const ReaderSurvey& reader : survey.readers) {
    if (!reader.grid) continue;
    const std::string prefix = concat("reader_", reader.reader, "_");
    write(prefix + "heatmap.png",
          heatmap_picture(*reader.grid, reader.read, *std::max_element(reader.read.begin(), reader.read.end()), 480));
    double largest = 0;
    for (const std::vector<double>& values : reader.by_class) {
      for (const double value : values) largest = std::max(largest, value);
    }
    std::vector<Picture> classes;
    for (const std::vector<double>& values : reader.by_class) classes.push_back(heatmap_picture(*reader.grid, values, largest, 160));
    write(prefix + "classes.png", montage(classes, 5));
  }
  for (const auto& [name, examples] : {std::pair{"shortest.png", &survey.shortest}, std::pair{"longest.png", &survey.longest}}) {
    std::vector<Picture> pictures;
    for (const ShownExample& example : *examples) {
      if (example.image.defined()) pictures.push_back(reading_picture(example, 280));
    }
    if (!pictures.empty()) write(name, montage(pictures, 4));
  }
  return names;
}

}  // namespace adatape
