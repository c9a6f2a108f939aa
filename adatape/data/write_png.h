// Pictures to PNG files.
#pragma once

#include <string>

#include "adatape/data/picture.h"

namespace adatape {

// Written beside the target and renamed; Error when it cannot be written. maker: ASCII, kept in the file ("Software"); "" leaves it out.
void write_png(const std::string& path, const Picture& picture, const std::string& maker = "");

// True for a file that write_png wrote for this maker: such a one may be written again, another may be somebody's only copy.
bool png_is_by(const std::string& path, const std::string& maker);

}  // namespace adatape
