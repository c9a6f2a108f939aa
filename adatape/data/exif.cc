#include "adatape/data/exif.h"

#include <cstring>

namespace adatape {
namespace {

constexpr uint32_t kOrientationTag = 0x0112;
constexpr uint32_t kShortType = 3;

// Numbers in the byte order that the structure announces; the caller keeps within the structure.
struct TiffReader {
  const uint8_t* bytes;
  bool big;

  uint32_t number(size_t at, int count) const {
    uint32_t value = 0;
    for (int i = 0; i < count; ++i) value |= uint32_t{bytes[at + static_cast<size_t>(i)]} << (8 * (big ? count - 1 - i : i));
    return value;
  }
};

}  // namespace

int exif_orientation(const uint8_t* tiff, size_t size) {
  constexpr int kUpright = 1;
  if (size < 8) return kUpright;
  const bool big = std::memcmp(tiff, "MM\0*", 4) == 0;
  if (!big && std::memcmp(tiff, "II*\0", 4) != 0) return kUpright;
  const TiffReader reader{tiff, big};
  const size_t directory = reader.number(4, 4);
  if (directory > size - 2) return kUpright;
  const size_t entries = reader.number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (entry + 12 > size) return kUpright;
    if (reader.number(entry, 2) != kOrientationTag) continue;
    if (reader.number(entry + 2, 2) != kShortType) return kUpright;
    const uint32_t value = reader.number(entry + 8, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : kUpright;
  }
  return kUpright;
}

Picture upright(Picture picture, int orientation) {
  if (orientation <= 1 || orientation > 8) return picture;
  const bool swaps = swaps_sides(orientation);
  Picture turned(swaps ? picture.width : picture.height, swaps ? picture.height : picture.width);
  // 2: mirrored; 3: half a turn; 4: upside down mirrored; 5: transposed; 6: quarter turn to the right; 7: transverse; 8: to the left.
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  for (int64_t y = 0; y < turned.height; ++y) {
    uint8_t* to = turned.row(y);
    for (int64_t x = 0; x < turned.width; ++x, to += 3) {
      const int64_t along = swaps ? y : x, down = swaps ? x : y;
      const int64_t source_x = from_right ? picture.width - 1 - along : along;
      const int64_t source_y = from_bottom ? picture.height - 1 - down : down;
      std::memcpy(to, picture.row(source_y) + source_x * 3, 3);
    }
  }
  return turned;
}

}  // namespace adatape
