// Pictures to PNG files.
#pragma once

#include <string>

#include "adatape/data/picture.h"

namespace adatape {

// Written beside the target and renamed; Error when it cannot be written.
void write_png(const std::string& path, const Picture& picture);

}  // namespace adatape
