// The bytes of a picture's file.
#pragma once

#include <cstdint>
#include <string>

namespace adatape {

constexpr int64_t kMaximumPictureBytes = int64_t{1} << 30;  // kMaximumPixels of 8 bytes, not compressed

// The whole file. Error before anything is read where it is no plain file (a pipe may wait and a device may go on for ever) or larger than
// maximum_bytes; Error with the system's reason where it cannot be read.
std::string read_picture_file(const std::string& path, int64_t maximum_bytes = kMaximumPictureBytes);

}  // namespace adatape
