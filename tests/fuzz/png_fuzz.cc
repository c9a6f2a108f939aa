// PNG pictures; inputs get the magic bytes and chunks their checksums, which random ones never have.
#include <zlib.h>

#include <cstring>
#include <vector>

#include "tests/fuzz/fuzz_picture.h"

namespace {

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  constexpr char kMagic[] = "\x89PNG\r\n\x1a\n";
  std::vector<uint8_t> input(bytes, bytes + size);
  if (input.size() < 8) return 0;
  std::memcpy(input.data(), kMagic, 8);
  for (size_t chunk = 8; chunk + 12 <= input.size();) {  // length, kind, content, checksum of kind and content
    const size_t length = big_endian(&input[chunk]);
    if (length > input.size() - chunk - 12) break;
    const auto sum = static_cast<uint32_t>(crc32(0, &input[chunk + 4], static_cast<uInt>(length + 4)));
    for (size_t i = 0; i < 4; ++i) input[chunk + 8 + length + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    chunk += length + 12;
  }
  adatape::fuzz_picture(input.data(), input.size());
  return 0;
}
