#include "adatape/data/preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr int64_t kLongest = 16;  // sides longer than this times the other one would make huge pictures in between

Box middle(const Picture& picture) {
  const int64_t height = std::min(picture.height, kLongest * picture.width), width = std::min(picture.width, kLongest * picture.height);
  return {(picture.height - height) / 2, (picture.width - width) / 2, height, width};
}

// `from` points at one channel; stride is that of pixels.
void write_plane(const uint8_t* from, int64_t stride, int64_t height, int64_t width, const Move& move, const std::array<float, 256>& value,
                 float* to) {
  const int64_t begin = std::clamp<int64_t>(move.right, 0, width), end = std::clamp<int64_t>(width + move.right, 0, width);
  for (int64_t y = 0; y < height; ++y, to += width) {
    const int64_t source_y = y - move.down;
    if (source_y < 0 || source_y >= height) {
      std::fill(to, to + width, value[0]);
      continue;
    }
    std::fill(to, to + begin, value[0]);
    std::fill(to + end, to + width, value[0]);
    const uint8_t* row = from + source_y * width * stride;
    if (move.flip) {
      for (int64_t x = begin; x < end; ++x) to[x] = value[row[(width - 1 - (x - move.right)) * stride]];
    } else {
      for (int64_t x = begin; x < end; ++x) to[x] = value[row[(x - move.right) * stride]];
    }
  }
}

struct Normalisation {
  double mean, deviation;
};

Normalisation normalisation(const Preprocess& preprocess, int64_t channel) {
  const auto of_channel = [&](const std::vector<double>& values, const char* name) {
    ADATAPE_CHECK(values.size() == 1 || static_cast<int64_t>(values.size()) == preprocess.channels, "preprocessing", "expected 1 or ",
                  preprocess.channels, " numbers as ", name, ", got ", values.size());
    return values.size() == 1 ? values.front() : values[static_cast<size_t>(channel)];
  };
  const Normalisation result{of_channel(preprocess.mean, "mean"), of_channel(preprocess.deviation, "std")};
  ADATAPE_CHECK(result.deviation > 0, "preprocessing", "expected std > 0, got ", result.deviation);
  return result;
}

}  // namespace

uint8_t grey_of(const uint8_t* rgb) { return static_cast<uint8_t>((299 * rgb[0] + 587 * rgb[1] + 114 * rgb[2] + 500) / 1000); }

Picture centre_view(const Picture& picture, const Preprocess& preprocess) {
  const int64_t height = preprocess.height, width = preprocess.width, shorter = std::min(height, width);
  ADATAPE_CHECK(preprocess.resize >= shorter, "preprocessing", "expected resize >= ", shorter, ", got ", preprocess.resize);
  const Box part = middle(picture);
  const double margin = static_cast<double>(preprocess.resize) / static_cast<double>(shorter);
  const double scale = margin * std::max(static_cast<double>(height) / static_cast<double>(part.height),
                                         static_cast<double>(width) / static_cast<double>(part.width));
  const auto scaled = [&](int64_t side, int64_t least) {
    return std::max<int64_t>(least, std::llround(static_cast<double>(side) * scale));
  };
  const int64_t rows = scaled(part.height, height), columns = scaled(part.width, width);
  const Picture resized = resample(picture, part, rows, columns, preprocess.interpolation);
  if (rows == height && columns == width) return resized;
  Picture view(height, width);
  for (int64_t y = 0; y < height; ++y) {
    std::memcpy(view.row(y), resized.row((rows - height) / 2 + y) + (columns - width) / 2 * 3, static_cast<size_t>(width) * 3);
  }
  return view;
}

PlaneWriter::PlaneWriter(const Preprocess& preprocess)
    : channels_(preprocess.channels), height_(preprocess.height), width_(preprocess.width) {
  ADATAPE_CHECK(channels_ == 1 || channels_ == 3, "preprocessing", "expected 1 or 3 channels, got ", channels_);
  for (int64_t channel = 0; channel < channels_; ++channel) {
    const auto [mean, deviation] = normalisation(preprocess, channel);
    const auto divisor = static_cast<float>(255 * deviation), shift = static_cast<float>(mean / deviation);
    std::array<float, 256>& values = value_of_byte_.emplace_back();
    for (size_t byte = 0; byte < values.size(); ++byte) values[byte] = static_cast<float>(byte) / divisor - shift;
  }
}

void PlaneWriter::write(const Picture& picture, const Move& move, float* to) const {
  ADATAPE_CHECK(picture.height == height_ && picture.width == width_, "preprocessing", "expected a picture of ", width_, " x ", height_,
                " pixels, got ", picture.width, " x ", picture.height);
  if (channels_ == 1) {
    std::vector<uint8_t> grey(static_cast<size_t>(height_ * width_));
    for (size_t i = 0; i < grey.size(); ++i) grey[i] = grey_of(picture.pixels.data() + 3 * i);
    return write_grey(grey.data(), move, to);
  }
  for (int64_t channel = 0; channel < channels_; ++channel) {
    write_plane(picture.pixels.data() + channel, 3, height_, width_, move, value_of_byte_[static_cast<size_t>(channel)],
                to + channel * height_ * width_);
  }
}

void PlaneWriter::write_grey(const uint8_t* grey, const Move& move, float* to) const {
  ADATAPE_CHECK(channels_ == 1, "preprocessing", "expected a writer of one channel, got ", channels_);
  write_plane(grey, 1, height_, width_, move, value_of_byte_.front(), to);
}

Picture picture_of_planes(const float* planes, const Preprocess& preprocess) {
  Picture picture(preprocess.height, preprocess.width);
  const int64_t pixels = preprocess.height * preprocess.width;
  for (int64_t c = 0; c < 3; ++c) {
    const int64_t channel = std::min(c, preprocess.channels - 1);
    const auto [mean, deviation] = normalisation(preprocess, channel);
    for (int64_t i = 0; i < pixels; ++i) {
      const double share = static_cast<double>(planes[channel * pixels + i]) * deviation + mean;
      picture.pixels[static_cast<size_t>(3 * i + c)] = static_cast<uint8_t>(std::lround(255 * std::clamp(share, 0.0, 1.0)));
    }
  }
  return picture;
}

}  // namespace adatape
