#include "adatape/data/write_png.h"

#include <png.h>

#include <sstream>

#include "adatape/core/check.h"
#include "adatape/core/files.h"

namespace adatape {

void write_png(const std::string& path, const Picture& picture) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(picture.width);
  image.height = static_cast<png_uint_32>(picture.height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string bytes(size, '\0');
  const int written = png_image_write_to_memory(&image, bytes.data(), &size, 0, picture.pixels.data(), 0, nullptr);
  ADATAPE_CHECK(written != 0, path, "cannot make a PNG: ", image.message);
  bytes.resize(size);
  write_file_atomically(path, bytes);
}

}  // namespace adatape
