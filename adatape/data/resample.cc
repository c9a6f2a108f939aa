#include "adatape/data/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "adatape/core/check.h"

namespace adatape {
namespace {

// What each of `to` places reads from a line of `from` places: weights of neighbours that begin at first[i].
struct Taps {
  std::vector<int64_t> first, count;
  std::vector<float> weights;    // [to, most], zero behind count
  int64_t most = 0, widest = 0;  // room for each place; the largest count
};

double triangle(double x) { return std::max(0.0, 1 - std::abs(x)); }

double cubic(double x) {  // Keys, a = -0.5, as Pillow and ATen's anti-aliased form have it
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

Taps taps_of(int64_t from, int64_t to, Interpolation interpolation) {
  const bool linear = interpolation == Interpolation::kBilinear;
  const double scale = static_cast<double>(from) / static_cast<double>(to), stretch = std::max(scale, 1.0);
  const double support = (linear ? 1.0 : 2.0) * stretch;
  Taps taps;
  taps.most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  taps.weights.resize(static_cast<size_t>(to * taps.most));
  for (int64_t i = 0; i < to; ++i) {
    const double centre = scale * (static_cast<double>(i) + 0.5);
    const int64_t first = std::max<int64_t>(static_cast<int64_t>(std::floor(centre - support + 0.5)), 0);
    const int64_t count = std::min(static_cast<int64_t>(std::floor(centre + support + 0.5)), from) - first;
    float* weights = taps.weights.data() + i * taps.most;
    double total = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double x = (static_cast<double>(first + k) - centre + 0.5) / stretch, weight = linear ? triangle(x) : cubic(x);
      weights[k] = static_cast<float>(weight);
      total += weight;
    }
    for (int64_t k = 0; k < count; ++k) weights[k] = static_cast<float>(weights[k] / total);
    taps.first.push_back(first);
    taps.count.push_back(count);
    taps.widest = std::max(taps.widest, count);
  }
  return taps;
}

// The sums below are written in vectors of four floats, which every processor has.
typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Integers __attribute__((vector_size(16)));
typedef int16_t Shorts __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(16)));
constexpr size_t kBytesBlock = sizeof(Bytes);

Floats floats_of(Shorts interleaved_with_zeros) {
  return __builtin_convertvector(reinterpret_cast<Integers>(interleaved_with_zeros), Floats);
}

// sums[i] = sum over k of weights[k] * from[k * stride + i], i below `line`.
void add_rows(const uint8_t* from, size_t stride, const float* weights, size_t count, size_t line, float* sums) {
  size_t i = 0;
  for (; i + kBytesBlock <= line; i += kBytesBlock) {
    Floats sum[4] = {};
    for (size_t k = 0; k < count; ++k) {
      Bytes bytes;
      std::memcpy(&bytes, from + k * stride + i, sizeof bytes);
      // Zeros between the bytes make them 16-bit numbers, zeros between those 32-bit ones: one instruction each.
      const auto low =
          reinterpret_cast<Shorts>(__builtin_shufflevector(bytes, Bytes{}, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
      const auto high =
          reinterpret_cast<Shorts>(__builtin_shufflevector(bytes, Bytes{}, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
      sum[0] += weights[k] * floats_of(__builtin_shufflevector(low, Shorts{}, 0, 8, 1, 9, 2, 10, 3, 11));
      sum[1] += weights[k] * floats_of(__builtin_shufflevector(low, Shorts{}, 4, 12, 5, 13, 6, 14, 7, 15));
      sum[2] += weights[k] * floats_of(__builtin_shufflevector(high, Shorts{}, 0, 8, 1, 9, 2, 10, 3, 11));
      sum[3] += weights[k] * floats_of(__builtin_shufflevector(high, Shorts{}, 4, 12, 5, 13, 6, 14, 7, 15));
    }
    std::memcpy(sums + i, sum, sizeof sum);
  }
  for (; i < line; ++i) {
    float sum = 0;
    for (size_t k = 0; k < count; ++k) sum += weights[k] * static_cast<float>(from[k * stride + i]);
    sums[i] = sum;
  }
}

// One row of pixels from a row of sums. Every pixel takes as many neighbours as the one with most, with weights of zero: a count that
// changes from pixel to pixel costs more in mispredicted branches. Of the sums, 3 * along.widest + 1 numbers behind the last may be read.
void write_row(const float* sums, const Taps& along, size_t width, uint8_t* to) {
  for (size_t x = 0; x < width; ++x, to += 3) {
    const float* weights = along.weights.data() + static_cast<int64_t>(x) * along.most;
    const float* from = sums + along.first[x] * 3;
    Floats sum{};  // red, green, blue and, of no use, the next pixel's red
    for (int64_t k = 0; k < along.widest; ++k, from += 3) {
      Floats pixel;
      std::memcpy(&pixel, from, sizeof pixel);
      sum += weights[k] * pixel;
    }
    sum = sum < 0.0f ? Floats{} : sum;
    sum = sum > 255.0f ? Floats{} + 255.0f : sum;
    const Integers rounded = __builtin_convertvector(sum + 0.5f, Integers);
    for (int colour = 0; colour < 3; ++colour) to[colour] = static_cast<uint8_t>(rounded[colour]);
  }
}

}  // namespace

// Rows first: their inner loop runs along contiguous memory.
Picture resample(const Picture& picture, const Box& part, int64_t height, int64_t width, Interpolation interpolation) {
  ADATAPE_CHECK(part.top >= 0 && part.left >= 0 && part.height >= 1 && part.width >= 1 && part.top + part.height <= picture.height &&
                    part.left + part.width <= picture.width && height >= 1 && width >= 1,
                "resample", "expected a part within ", picture.width, " x ", picture.height, " pixels and a size, got ", part.width, " x ",
                part.height, " at ", part.left, ", ", part.top, " to ", width, " x ", height);
  const Taps down = taps_of(part.height, height, interpolation), along = taps_of(part.width, width, interpolation);
  const auto line = static_cast<size_t>(part.width * 3);
  std::vector<float> sums(line + static_cast<size_t>(3 * along.widest) + 1);  // zeros behind the line
  Picture resized(height, width);
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* from = picture.row(part.top + down.first[static_cast<size_t>(y)]) + part.left * 3;
    add_rows(from, static_cast<size_t>(picture.width * 3), down.weights.data() + y * down.most,
             static_cast<size_t>(down.count[static_cast<size_t>(y)]), line, sums.data());
    write_row(sums.data(), along, static_cast<size_t>(width), resized.row(y));
  }
  return resized;
}

}  // namespace adatape
