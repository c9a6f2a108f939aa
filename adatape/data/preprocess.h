// From a picture of any size and colour to the numbers that a model reads.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "adatape/data/picture.h"
#include "adatape/data/resample.h"

namespace adatape {

// Part of a model's configuration: whoever shows it a picture later shows it in the same way.
struct Preprocess {
  int64_t channels = 3;  // 3: red, green, blue; 1: grey
  int64_t height = 224, width = 224;
  int64_t resize = 256;  // >= min(height, width): what the shorter side is brought to before the centre is cut out
  Interpolation interpolation = Interpolation::kBilinear;
  std::vector<double> mean{0.5}, deviation{0.5};  // of one or each channel; 0.5 and 0.5: values in [-1, 1]
};

// A picture resized (its sides keep their ratio) so that it just covers height x width, each times resize / min(height, width), and the
// centre of that: height x width. Of a picture longer than 16 times its other side only the middle is looked at.
Picture centre_view(const Picture& picture, const Preprocess& preprocess);

// The luma of a pixel (ITU-R BT.601), rounded.
uint8_t grey_of(const uint8_t* rgb);

// How an image is moved before it is shown: mirrored left to right first, then shifted; what comes into view is black.
struct Move {
  bool flip = false;
  int64_t down = 0, right = 0;
};

// Bytes to planes of floats, (byte / 255 - mean) / deviation. Plain loops: batches are made on threads that must not start a team each.
class PlaneWriter {
 public:
  // mean and deviation: 1 or `channels` numbers each.
  explicit PlaneWriter(const Preprocess& preprocess);

  // picture: height x width; to: [channels, height, width].
  void write(const Picture& picture, const Move& move, float* to) const;
  // grey: [height, width]; for one channel.
  void write_grey(const uint8_t* grey, const Move& move, float* to) const;

 private:
  int64_t channels_, height_, width_;
  std::vector<std::array<float, 256>> value_of_byte_;  // of each channel
};

// The picture back from planes [channels, height, width] of floats that a PlaneWriter of the same settings wrote, exactly; a grey one has
// equal red, green and blue. Other values become the nearest byte.
Picture picture_of_planes(const float* planes, const Preprocess& preprocess);

}  // namespace adatape
