#include "adatape/data/decode.h"

#include <algorithm>
#include <cstring>
#include <sstream>
#include <utility>

#include "adatape/core/check.h"
#include "adatape/data/decode_formats.h"
#include "adatape/data/exif.h"

namespace adatape {
namespace {

bool begins_with(const EncodedPicture& encoded, const char* magic, size_t size) {
  return encoded.size >= size && std::memcmp(encoded.bytes, magic, size) == 0;
}

}  // namespace

PictureDecoder::PictureDecoder(const EncodedPicture& encoded, int64_t maximum_pixels) : encoded_(encoded) {
  const bool jpeg = begins_with(encoded, "\xff\xd8\xff", 3);
  ADATAPE_CHECK(jpeg || begins_with(encoded, "\x89PNG\r\n\x1a\n", 8), encoded.name, "expected a JPEG or PNG picture, got ",
                encoded.size == 0 ? "an empty file" : "other data");
  format_ = jpeg ? Format::kJpeg : Format::kPng;
  const PictureHeader header = jpeg ? read_jpeg_header(encoded) : read_png_header(encoded);
  ADATAPE_CHECK(header.height >= 1 && header.width >= 1, encoded.name, "expected a picture with pixels, got ", header.width, " x ",
                header.height);
  ADATAPE_CHECK(header.height <= maximum_pixels / header.width, encoded.name, "expected at most ", maximum_pixels, " pixels, got ",
                header.width, " x ", header.height);
  orientation_ = header.orientation;
  height_ = swaps_sides(orientation_) ? header.width : header.height;
  width_ = swaps_sides(orientation_) ? header.height : header.width;
}

Picture PictureDecoder::decode() const {
  if (format_ == Format::kPng) return upright(decode_png(encoded_), orientation_);
  const bool swaps = swaps_sides(orientation_);
  const Box all{0, 0, swaps ? width_ : height_, swaps ? height_ : width_};
  return upright(decode_jpeg(encoded_, 1, all).picture, orientation_);
}

DecodedPart PictureDecoder::decode_part(const Box& part, int64_t target_height, int64_t target_width) const {
  ADATAPE_CHECK(part.top >= 0 && part.left >= 0 && part.height >= 1 && part.width >= 1 && part.height <= height_ - part.top &&
                    part.width <= width_ - part.left,
                encoded_.name, "expected a part within ", width_, " x ", height_, " pixels, got ", part.width, " x ", part.height, " at ",
                part.left, ", ", part.top);
  if (format_ == Format::kPng) return {decode(), 1, part};
  int64_t reduction = 1;
  while (reduction < 8 && part.height >= 2 * reduction * target_height && part.width >= 2 * reduction * target_width) reduction *= 2;
  if (orientation_ == 1) return decode_jpeg(encoded_, reduction, part);

  // Turned pictures are decoded whole, then turned: the part is easily found again.
  const bool swaps = swaps_sides(orientation_);
  const Box all{0, 0, swaps ? width_ : height_, swaps ? height_ : width_};
  DecodedPart turned = decode_jpeg(encoded_, reduction, all);
  turned.picture = upright(std::move(turned.picture), orientation_);
  const int64_t bottom = std::min((part.top + part.height + reduction - 1) / reduction, turned.picture.height);
  const int64_t right = std::min((part.left + part.width + reduction - 1) / reduction, turned.picture.width);
  turned.part = {part.top / reduction, part.left / reduction, bottom - part.top / reduction, right - part.left / reduction};
  return turned;
}

Picture decode_picture(const EncodedPicture& encoded, int64_t maximum_pixels) { return PictureDecoder(encoded, maximum_pixels).decode(); }

}  // namespace adatape
