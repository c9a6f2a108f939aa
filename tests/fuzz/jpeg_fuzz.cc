// JPEG pictures; inputs get the magic bytes, so that none is wasted on being told apart.
#include <cstring>
#include <vector>

#include "tests/fuzz/fuzz_picture.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  constexpr char kMagic[] = "\xff\xd8\xff";
  std::vector<uint8_t> input(bytes, bytes + size);
  if (input.size() < sizeof kMagic - 1) return 0;
  std::memcpy(input.data(), kMagic, sizeof kMagic - 1);
  adatape::fuzz_picture(input.data(), input.size());
  return 0;
}
