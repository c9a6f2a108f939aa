// A decoded picture: bytes, red, green and blue side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace adatape {

// Rows of pixels, each red, green, blue: as decoders write and resampling reads them. Planes are made when a picture goes into a batch.
struct Picture {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [height, width, 3]

  Picture() = default;
  Picture(int64_t rows, int64_t columns, uint8_t value = 0)
      : height(rows), width(columns), pixels(static_cast<size_t>(rows) * static_cast<size_t>(columns) * 3, value) {}
  uint8_t* row(int64_t y) { return pixels.data() + y * width * 3; }
  const uint8_t* row(int64_t y) const { return pixels.data() + y * width * 3; }
};

// A rectangle of whole pixels.
struct Box {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

}  // namespace adatape
