// Resizing with anti-aliasing.
#pragma once

#include "adatape/data/picture.h"

namespace adatape {

enum class Interpolation { kBilinear, kBicubic };

// `part` of a picture, and nothing outside it, brought to height x width. The arithmetic is that of ATen's _upsample_bilinear2d_aa and
// _upsample_bicubic2d_aa (a = -0.5) with align_corners = false, in float; results are rounded to bytes. A side that grows is interpolated,
// one that shrinks averages over what it covers.
Picture resample(const Picture& picture, const Box& part, int64_t height, int64_t width, Interpolation interpolation);

}  // namespace adatape
