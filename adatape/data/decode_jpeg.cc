// JPEG by libjpeg-turbo. Its errors come back by longjmp, which must not cross a C++ object that owns something: the functions with a
// setjmp hold none, and write into memory that their callers own.
#include <cstddef>
#include <cstdio>
// jpeglib.h needs size_t and FILE
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>

#include "adatape/core/check.h"
#include "adatape/data/decode_formats.h"
#include "adatape/data/exif.h"

namespace adatape {
namespace {

// A progressive file of a few kilobytes may hold thousands of scans, each of which costs a pass over all coefficients.
constexpr int kMaximumScans = 200;
constexpr unsigned int kExifMarker = JPEG_APP0 + 1;

struct Decompressor {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  std::jmp_buf failed;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* decompressor = static_cast<Decompressor*>(info->client_data);
  info->err->format_message(info, decompressor->message);
  std::longjmp(decompressor->failed, 1);
}

// level < 0: a warning, that is, damaged data which the library would paint over. Harmless ones, common in photographs, are let pass.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_ADOBE_XFORM:
    case JWRN_TOO_MUCH_DATA:
      return;
    default:
      fail(info);
  }
}

void stay_silent(j_common_ptr) {}

void limit_scans(j_common_ptr info) {
  auto* decompressor = static_cast<Decompressor*>(info->client_data);
  if (decompressor->info.input_scan_number <= kMaximumScans) return;
  std::snprintf(decompressor->message, sizeof decompressor->message, "more than %d scans", kMaximumScans);
  std::longjmp(decompressor->failed, 1);
}

// Everything but the setjmp that catches what fails in here.
void open(Decompressor& decompressor, const EncodedPicture& encoded) {
  jpeg_create_decompress(&decompressor.info);
  decompressor.info.client_data = &decompressor;
  decompressor.progress.progress_monitor = limit_scans;
  decompressor.info.progress = &decompressor.progress;
  jpeg_mem_src(&decompressor.info, encoded.bytes, encoded.size);
}

void prepare(Decompressor& decompressor) {
  std::memset(&decompressor, 0, sizeof decompressor);
  decompressor.info.err = jpeg_std_error(&decompressor.errors);
  decompressor.errors.error_exit = fail;
  decompressor.errors.emit_message = on_message;
  decompressor.errors.output_message = stay_silent;
  decompressor.info.client_data = &decompressor;
}

int orientation_of(const jpeg_decompress_struct& info) {
  for (jpeg_saved_marker_ptr marker = info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->marker == kExifMarker && marker->data_length > 6 && std::memcmp(marker->data, "Exif\0\0", 6) == 0) {
      return exif_orientation(marker->data + 6, marker->data_length - 6);
    }
  }
  return 1;
}

bool try_read_header(Decompressor& decompressor, const EncodedPicture& encoded, PictureHeader& header) {
  if (setjmp(decompressor.failed) != 0) return false;
  open(decompressor, encoded);
  jpeg_save_markers(&decompressor.info, kExifMarker, 0xffff);
  jpeg_read_header(&decompressor.info, TRUE);
  header.height = decompressor.info.image_height;
  header.width = decompressor.info.image_width;
  header.orientation = orientation_of(decompressor.info);
  return true;
}

// Sets the output up and starts; says how large it is. Columns outside the part are cut as far as blocks allow.
struct Plan {
  int64_t scaled_height = 0, scaled_width = 0;
  int64_t top = 0, bottom = 0;     // rows to deliver
  JDIMENSION left = 0, width = 0;  // columns to deliver
  bool cmyk = false, inverted = false;
};

bool try_start(Decompressor& decompressor, const EncodedPicture& encoded, int64_t reduction, const Box& part, Plan& plan) {
  if (setjmp(decompressor.failed) != 0) return false;
  jpeg_decompress_struct& info = decompressor.info;
  open(decompressor, encoded);
  jpeg_read_header(&info, TRUE);
  plan.cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  plan.inverted = plan.cmyk && info.saw_Adobe_marker;  // Adobe's programs store the complement
  info.out_color_space = plan.cmyk ? JCS_CMYK : JCS_RGB;
  info.scale_num = 1;
  info.scale_denom = static_cast<unsigned int>(reduction);
  jpeg_start_decompress(&info);
  plan.scaled_height = info.output_height;
  plan.scaled_width = info.output_width;
  // Colour is stored at half the size and smoothed across blocks: a margin of two of its blocks, so that the part's own pixels come out as
  // they do in the whole picture.
  const int64_t margin = 2 * info.max_h_samp_factor * info.min_DCT_scaled_size;
  const int64_t left = std::max<int64_t>(0, part.left / reduction - margin);
  const int64_t right = std::min(plan.scaled_width, (part.left + part.width + reduction - 1) / reduction + margin);
  plan.left = static_cast<JDIMENSION>(left);
  plan.width = static_cast<JDIMENSION>(right - left);
  if (left > 0 || right < plan.scaled_width) jpeg_crop_scanline(&info, &plan.left, &plan.width);
  plan.top = part.top / reduction;
  plan.bottom = std::min(plan.scaled_height, (part.top + part.height + reduction - 1) / reduction);
  return true;
}

// pixels: [bottom - top, width, 3]; row: [width, 4], for CMYK.
bool try_read_rows(Decompressor& decompressor, const Plan& plan, uint8_t* pixels, uint8_t* row) {
  if (setjmp(decompressor.failed) != 0) return false;
  jpeg_decompress_struct& info = decompressor.info;
  if (plan.top > 0) jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(plan.top));
  for (int64_t y = plan.top; y < plan.bottom; ++y) {
    uint8_t* colours = pixels + static_cast<size_t>(y - plan.top) * 3 * size_t{plan.width};
    JSAMPROW to = plan.cmyk ? row : colours;
    jpeg_read_scanlines(&info, &to, 1);
    if (!plan.cmyk) continue;
    for (JDIMENSION x = 0; x < plan.width; ++x) {
      const uint8_t* ink = row + 4 * size_t{x};
      for (size_t colour = 0; colour < 3; ++colour) {
        const int light = plan.inverted ? ink[colour] : 255 - ink[colour], grey = plan.inverted ? ink[3] : 255 - ink[3];
        colours[3 * size_t{x} + colour] = static_cast<uint8_t>((light * grey + 127) / 255);
      }
    }
  }
  if (plan.bottom == plan.scaled_height) jpeg_finish_decompress(&info);
  return true;
}

// Frees what the library holds, whichever way a function is left.
struct OwnedDecompressor {
  Decompressor decompressor;
  OwnedDecompressor() { prepare(decompressor); }
  ~OwnedDecompressor() { jpeg_destroy_decompress(&decompressor.info); }
  OwnedDecompressor(const OwnedDecompressor&) = delete;
  OwnedDecompressor& operator=(const OwnedDecompressor&) = delete;

  [[noreturn]] void refuse(const std::string& name) const {
    throw Error(concat(name, ": expected an intact JPEG picture, got \"", decompressor.message, '"'));
  }
};

}  // namespace

PictureHeader read_jpeg_header(const EncodedPicture& encoded) {
  OwnedDecompressor owner;
  PictureHeader header;
  if (!try_read_header(owner.decompressor, encoded, header)) owner.refuse(encoded.name);
  return header;
}

DecodedPart decode_jpeg(const EncodedPicture& encoded, int64_t reduction, const Box& part) {
  OwnedDecompressor owner;
  Plan plan;
  if (!try_start(owner.decompressor, encoded, reduction, part, plan)) owner.refuse(encoded.name);
  DecodedPart decoded;
  decoded.reduction = reduction;
  decoded.picture = Picture(plan.bottom - plan.top, plan.width);
  std::vector<uint8_t> row(plan.cmyk ? 4 * size_t{plan.width} : 0);
  if (!try_read_rows(owner.decompressor, plan, decoded.picture.pixels.data(), row.data())) owner.refuse(encoded.name);
  const int64_t left = part.left / reduction, right = std::min(plan.scaled_width, (part.left + part.width + reduction - 1) / reduction);
  decoded.part = {0, left - plan.left, plan.bottom - plan.top, right - left};
  return decoded;
}

}  // namespace adatape
