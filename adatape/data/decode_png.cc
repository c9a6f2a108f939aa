// PNG by libpng; about setjmp see decode_jpeg.cc.
#include <png.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "adatape/core/check.h"
#include "adatape/data/decode_formats.h"
#include "adatape/data/exif.h"

namespace adatape {
namespace {

// Trivial, so that a longjmp may leave it behind.
struct Reader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  const uint8_t* bytes = nullptr;
  size_t left = 0;
  char message[128] = "";
};

[[noreturn]] void fail(png_structp png, png_const_charp message) {
  auto* reader = static_cast<Reader*>(png_get_error_ptr(png));
  std::snprintf(reader->message, sizeof reader->message, "%s", message);
  png_longjmp(png, 1);
}

void stay_silent(png_structp, png_const_charp) {}

void take(png_structp png, png_bytep to, size_t count) {
  auto* reader = static_cast<Reader*>(png_get_io_ptr(png));
  if (count > reader->left) png_error(png, "the file ends early");
  std::memcpy(to, reader->bytes, count);
  reader->bytes += count;
  reader->left -= count;
}

bool try_read_header(Reader& reader, PictureHeader& header) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_read_fn(reader.png, &reader, take);
  png_set_user_limits(reader.png, 0x7fffffff, 0x7fffffff);  // the product is checked by the caller
  png_set_chunk_cache_max(reader.png, 64);
  png_set_chunk_malloc_max(reader.png, png_alloc_size_t{4} << 20);
  png_read_info(reader.png, reader.info);
  header.height = png_get_image_height(reader.png, reader.info);
  header.width = png_get_image_width(reader.png, reader.info);
  png_bytep exif = nullptr;
  png_uint_32 size = 0;
  if (png_get_eXIf_1(reader.png, reader.info, &size, &exif) != 0 && exif != nullptr) header.orientation = exif_orientation(exif, size);
  return true;
}

// pixels: [height, width, 4] red, green, blue, alpha.
bool try_read_rows(Reader& reader, const PictureHeader& header, uint8_t* pixels) {
  if (setjmp(png_jmpbuf(reader.png)) != 0) return false;
  png_set_expand(reader.png);    // palette, fewer than 8 bits, a transparent colour
  png_set_scale_16(reader.png);  // rounded, not cut
  png_set_gray_to_rgb(reader.png);
  png_set_add_alpha(reader.png, 0xff, PNG_FILLER_AFTER);
  const int passes = png_set_interlace_handling(reader.png);
  png_read_update_info(reader.png, reader.info);
  const size_t row_bytes = static_cast<size_t>(header.width) * 4;
  if (png_get_rowbytes(reader.png, reader.info) != row_bytes) png_error(reader.png, "unexpected kind of pixels");
  for (int pass = 0; pass < passes; ++pass) {
    for (int64_t y = 0; y < header.height; ++y) png_read_row(reader.png, pixels + static_cast<size_t>(y) * row_bytes, nullptr);
  }
  png_read_end(reader.png, nullptr);
  return true;
}

// libpng makes room for a whole EXIF chunk before it reads one: an 86-byte file that announces 1.4 GB would have it reserved. What cannot
// be in the file is refused before that.
void check_chunk_lengths(const EncodedPicture& encoded) {
  constexpr size_t kSignature = 8, kFrame = 12;  // length, kind and checksum of a chunk
  for (size_t at = kSignature; at + kFrame <= encoded.size;) {
    const size_t length = png_get_uint_32(encoded.bytes + at), left = encoded.size - at - kFrame;
    ADATAPE_CHECK(length <= left, encoded.name, "expected an intact PNG picture, got a chunk of ", length, " bytes where ", left,
                  " are left");
    if (std::memcmp(encoded.bytes + at + 4, "IEND", 4) == 0) return;
    at += kFrame + length;
  }
}

struct OwnedReader {
  Reader reader;
  explicit OwnedReader(const EncodedPicture& encoded) {
    check_chunk_lengths(encoded);
    reader.bytes = encoded.bytes;
    reader.left = encoded.size;
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, fail, stay_silent);
    if (reader.png != nullptr) reader.info = png_create_info_struct(reader.png);
    if (reader.info == nullptr) {
      png_destroy_read_struct(&reader.png, nullptr, nullptr);
      throw Error(concat(encoded.name, ": libpng could not start (out of memory?)"));
    }
  }
  ~OwnedReader() { png_destroy_read_struct(&reader.png, &reader.info, nullptr); }
  OwnedReader(const OwnedReader&) = delete;
  OwnedReader& operator=(const OwnedReader&) = delete;

  [[noreturn]] void refuse(const std::string& name) const {
    throw Error(concat(name, ": expected an intact PNG picture, got \"", reader.message, '"'));
  }
};

}  // namespace

PictureHeader read_png_header(const EncodedPicture& encoded) {
  OwnedReader owner(encoded);
  PictureHeader header;
  if (!try_read_header(owner.reader, header)) owner.refuse(encoded.name);
  return header;
}

Picture decode_png(const EncodedPicture& encoded) {
  OwnedReader owner(encoded);
  PictureHeader header;
  if (!try_read_header(owner.reader, header)) owner.refuse(encoded.name);
  const size_t pixels = static_cast<size_t>(header.height) * static_cast<size_t>(header.width);
  std::vector<uint8_t> with_alpha(pixels * 4);
  if (!try_read_rows(owner.reader, header, with_alpha.data())) owner.refuse(encoded.name);
  Picture picture(header.height, header.width);
  const uint8_t* from = with_alpha.data();
  uint8_t* to = picture.pixels.data();
  for (size_t i = 0; i < pixels; ++i, from += 4, to += 3) {
    const int alpha = from[3];
    for (int colour = 0; colour < 3; ++colour) to[colour] = static_cast<uint8_t>((from[colour] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
  return picture;
}

}  // namespace adatape
