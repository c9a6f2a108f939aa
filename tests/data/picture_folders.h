// Folders of small pictures for tests.
#pragma once

#include <filesystem>
#include <string>

#include "tests/data/idx_files.h"
#include "tests/data/picture_files.h"

namespace adatape {

inline void write_picture(const std::string& path, const std::string& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  write_bytes(path, bytes);
}

// A picture of one colour, a little different in each of its variants.
inline Picture plain_picture(int red, int green, int blue, int variant, int64_t height = 24, int64_t width = 32) {
  Picture picture(height, width);
  for (size_t i = 0; i < picture.pixels.size(); i += 3) {
    picture.pixels[i] = static_cast<uint8_t>(red + variant);
    picture.pixels[i + 1] = static_cast<uint8_t>(green + variant);
    picture.pixels[i + 2] = static_cast<uint8_t>(blue + variant);
  }
  return picture;
}

// root/SPLIT/{blue,red}/N.jpg|png, `count` pictures of each class; their variants tell them apart: N is in 0 .. count - 1.
inline void write_two_classes(const std::string& root, const std::string& split, int count) {
  for (int i = 0; i < count; ++i) {
    const std::string name = std::to_string(100 + i);
    write_picture(root + "/" + split + "/blue/" + name + ".png", png_bytes(plain_picture(20, 30, 200, i)));
    write_picture(root + "/" + split + "/red/" + name + ".jpg", jpeg_bytes(plain_picture(200, 30, 20, i)));
  }
}

}  // namespace adatape
