// JPEG and PNG files to pictures. Files are not trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "adatape/data/picture.h"

namespace adatape {

// 300 MB decoded. More while decoding: a PNG's four channels beside them (700 MB), a picture that EXIF turns twice (600 MB).
constexpr int64_t kMaximumPixels = 100'000'000;

// The bytes of a file; the memory is the caller's and outlives the decoder.
struct EncodedPicture {
  const uint8_t* bytes = nullptr;
  size_t size = 0;
  std::string name;  // for error texts
};

// A part of a picture, decoded at 1/reduction of its size: what lies outside the part may be missing.
struct DecodedPart {
  Picture picture;
  int64_t reduction = 1;  // 1, 2, 4 or 8
  Box part;               // the asked part in coordinates of `picture`; its edges are rounded outwards when reduction > 1
};

// Grey, palette, RGB, CMYK and YCCK, 1 to 16 bits, with or without alpha (laid over white), progressive and interlaced; turned as EXIF
// says. Colour profiles and gamma are ignored. Every call throws Error in one line naming the file for what is neither JPEG nor PNG, for
// more than maximum_pixels (before anything of that size is allocated) and for damaged or truncated data; a JPEG's bytes behind the last
// row needed are not looked at.
class PictureDecoder {
 public:
  // Reads the header.
  explicit PictureDecoder(const EncodedPicture& encoded, int64_t maximum_pixels = kMaximumPixels);

  // Sizes as the picture is looked at.
  int64_t height() const { return height_; }
  int64_t width() const { return width_; }

  Picture decode() const;
  // What is needed to bring `part` (within the picture) to a size of at least target_height x target_width: JPEG decodes at the smallest
  // eighth, quarter or half that is no smaller, and skips rows and blocks outside the part. With reduction 1 the part's pixels equal those
  // of decode().
  DecodedPart decode_part(const Box& part, int64_t target_height, int64_t target_width) const;

 private:
  enum class Format { kJpeg, kPng };
  EncodedPicture encoded_;
  Format format_;
  int64_t height_ = 0, width_ = 0;
  int orientation_ = 1;
};

// The whole of a file's bytes as a picture.
Picture decode_picture(const EncodedPicture& encoded, int64_t maximum_pixels = kMaximumPixels);

}  // namespace adatape
