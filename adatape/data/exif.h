// How a camera was held, from the EXIF block of a picture.
#pragma once

#include <cstddef>
#include <cstdint>

#include "adatape/data/picture.h"

namespace adatape {

// The orientation (1 .. 8) of a TIFF structure, as JPEG's APP1 holds it behind "Exif\0\0" and PNG's eXIf holds it bare; 1 (upright) where
// it is missing or makes no sense: a picture with damaged EXIF is still a picture.
int exif_orientation(const uint8_t* tiff, size_t size);

// True when an orientation swaps rows and columns.
constexpr bool swaps_sides(int orientation) { return orientation >= 5; }

// The picture as it is to be looked at.
Picture upright(Picture picture, int orientation);

}  // namespace adatape
