// One input of the picture decoders: whole, and a part of it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "adatape/core/check.h"
#include "adatape/data/decode.h"
#include "adatape/data/resample.h"

namespace adatape {

// Errors are what is expected of most inputs; the first byte behind the magic chooses the part.
inline void fuzz_picture(const uint8_t* bytes, size_t size) {
  constexpr int64_t kMost = 1 << 20;  // pixels: enough for every path, small enough to be fast
  try {
    const PictureDecoder decoder({bytes, size, "input"}, kMost);
    const uint64_t choice = size > 8 ? bytes[size / 2] : 0;
    Box part;
    part.height = 1 + static_cast<int64_t>(choice * 7 % static_cast<uint64_t>(decoder.height()));
    part.width = 1 + static_cast<int64_t>(choice * 13 % static_cast<uint64_t>(decoder.width()));
    part.top = (decoder.height() - part.height) / 2;
    part.left = (decoder.width() - part.width) / 2;
    const DecodedPart decoded = decoder.decode_part(part, 8, 8);
    resample(decoded.picture, decoded.part, 8, 8, choice % 2 == 0 ? Interpolation::kBilinear : Interpolation::kBicubic);
    decoder.decode();
  } catch (const Error&) {
  }
}

}  // namespace adatape
