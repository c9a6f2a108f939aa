// The two decoders behind decode.h. Whoever calls decode_* has looked at the size in the header.
#pragma once

#include "adatape/data/decode.h"

namespace adatape {

struct PictureHeader {
  int64_t height = 0, width = 0;  // as stored
  int orientation = 1;
};

PictureHeader read_jpeg_header(const EncodedPicture& encoded);
// As stored; part is within the picture. Rows outside it are skipped; columns are cut as blocks allow.
DecodedPart decode_jpeg(const EncodedPicture& encoded, int64_t reduction, const Box& part);

PictureHeader read_png_header(const EncodedPicture& encoded);
Picture decode_png(const EncodedPicture& encoded);

}  // namespace adatape
