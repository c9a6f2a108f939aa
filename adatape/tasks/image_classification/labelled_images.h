// Images with their classes, as bytes in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

struct LabelledImages {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;  // [count, height, width]
  std::vector<uint8_t> labels;  // [count], each below the number of classes

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  const uint8_t* image(int64_t index) const { return pixels.data() + index * height * width; }
};

// Reads <folder>/<prefix>-images-idx3-ubyte and <folder>/<prefix>-labels-idx1-ubyte, with .gz where it is there. Throws Error when a file
// is missing or damaged, when counts differ, images are not height x width, or a label is not below classes.
LabelledImages read_idx_images(const std::string& folder, const std::string& prefix, int64_t height, int64_t width, int64_t classes);

}  // namespace adatape
