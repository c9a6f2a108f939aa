// Small JPEG and PNG files for tests, made by the libraries' own encoders.
#pragma once

#include <cstdio>
// jpeglib.h needs FILE
#include <jpeglib.h>
#include <png.h>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "adatape/data/decode.h"

namespace adatape {

// A smooth picture whose places can be told apart.
inline Picture gradient_picture(int64_t height, int64_t width) {
  Picture picture(height, width);
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      uint8_t* pixel = picture.row(y) + 3 * x;
      pixel[0] = static_cast<uint8_t>(255 * y / std::max<int64_t>(1, height - 1));
      pixel[1] = static_cast<uint8_t>(255 * x / std::max<int64_t>(1, width - 1));
      pixel[2] = static_cast<uint8_t>(40 + (x + y) % 16);
    }
  }
  return picture;
}

struct JpegOptions {
  J_COLOR_SPACE space = JCS_YCbCr;  // JCS_GRAYSCALE, JCS_YCbCr, JCS_CMYK, JCS_YCCK
  int quality = 95;
  int orientation = 0;  // 0: no EXIF
  bool progressive = false;
  bool full_colour = false;  // colour at full resolution
};

// samples: rows of 1 (grey), 3 (RGB) or 4 (CMYK) bytes a pixel.
inline std::string jpeg_bytes(const std::vector<uint8_t>& samples, int64_t height, int64_t width, const JpegOptions& options = {}) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = static_cast<JDIMENSION>(height);
  info.image_width = static_cast<JDIMENSION>(width);
  const bool cmyk = options.space == JCS_CMYK || options.space == JCS_YCCK;
  info.input_components = options.space == JCS_GRAYSCALE ? 1 : cmyk ? 4 : 3;
  info.in_color_space = options.space == JCS_GRAYSCALE ? JCS_GRAYSCALE : cmyk ? JCS_CMYK : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, options.space);
  jpeg_set_quality(&info, options.quality, TRUE);
  if (options.full_colour) {
    for (int i = 0; i < info.num_components; ++i) info.comp_info[i].h_samp_factor = info.comp_info[i].v_samp_factor = 1;
  }
  if (options.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  if (options.orientation > 0) {
    std::string exif("Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", 6 + 8 + 2 + 9);
    exif += static_cast<char>(options.orientation);
    exif += std::string(6, '\0');
    jpeg_write_marker(&info, JPEG_APP0 + 1, reinterpret_cast<const JOCTET*>(exif.data()), static_cast<unsigned int>(exif.size()));
  }
  for (int64_t y = 0; y < height; ++y) {
    auto* row = const_cast<JSAMPROW>(samples.data() + y * width * info.input_components);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string file(reinterpret_cast<char*>(bytes), size);
  std::free(bytes);
  return file;
}

inline std::string jpeg_bytes(const Picture& picture, const JpegOptions& options = {}) {
  return jpeg_bytes(picture.pixels, picture.height, picture.width, options);
}

// samples as PNG stores them (16 bits big-endian); palette: RGB triples for PNG_COLOR_TYPE_PALETTE.
inline std::string png_bytes(const std::vector<uint8_t>& samples, int64_t height, int64_t width, int colour_type, int bits = 8,
                             const std::vector<uint8_t>& palette = {}, int orientation = 0) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  std::string file;
  png_set_write_fn(
      png, &file,
      [](png_structp writer, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(writer))->append(reinterpret_cast<char*>(data), size);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), bits, colour_type, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  std::vector<png_color> colours;
  for (size_t i = 0; i + 2 < palette.size(); i += 3) colours.push_back({palette[i], palette[i + 1], palette[i + 2]});
  if (!colours.empty()) png_set_PLTE(png, info, colours.data(), static_cast<int>(colours.size()));
  std::string exif("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0", 18);
  exif += static_cast<char>(orientation);
  exif += std::string(7, '\0');
  if (orientation > 0) png_set_eXIf_1(png, info, static_cast<png_uint_32>(exif.size()), reinterpret_cast<png_bytep>(exif.data()));
  png_write_info(png, info);
  const size_t row_bytes = png_get_rowbytes(png, info);
  for (int64_t y = 0; y < height; ++y) png_write_row(png, samples.data() + static_cast<size_t>(y) * row_bytes);
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return file;
}

inline std::string png_bytes(const Picture& picture) {
  return png_bytes(picture.pixels, picture.height, picture.width, PNG_COLOR_TYPE_RGB);
}

inline EncodedPicture encoded(const std::string& bytes, const std::string& name = "photo") {
  return {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), name};
}

}  // namespace adatape
