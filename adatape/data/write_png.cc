#include "adatape/data/write_png.h"

#include <png.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "adatape/core/check.h"
#include "adatape/core/files.h"

namespace adatape {
namespace {

constexpr size_t kBehindHeader = 8 + 25;  // signature and IHDR: the first place for other chunks

std::string big_endian(size_t value) {
  std::string bytes(4, '\0');
  png_save_uint_32(reinterpret_cast<png_bytep>(bytes.data()), static_cast<png_uint_32>(value));
  return bytes;
}

// A tEXt chunk; libpng's simple interface, which write_png uses, has none.
std::string maker_chunk(const std::string& maker) {
  const std::string content = std::string("tEXtSoftware") + '\0' + maker;
  const uLong sum = crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size()));
  return big_endian(content.size() - 4) + content + big_endian(sum);
}

}  // namespace

void write_png(const std::string& path, const Picture& picture, const std::string& maker) {
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
  if (!maker.empty()) bytes.insert(kBehindHeader, maker_chunk(maker));
  write_file_atomically(path, bytes);
}

bool png_is_by(const std::string& path, const std::string& maker) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  const std::string chunk = maker_chunk(maker);
  std::string bytes(kBehindHeader + chunk.size(), '\0');
  std::ifstream stream(path, std::ios::binary);
  stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return stream.good() && bytes.compare(kBehindHeader, chunk.size(), chunk) == 0;
}

}  // namespace adatape
