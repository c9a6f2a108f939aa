// Tar shards. Checksums of headers are put right first: a random one never is.
#include <cstdio>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/data/tar_shards.h"
#include "tests/fuzz/fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  std::vector<uint8_t> input(bytes, bytes + size);
  for (size_t block = 0; block + 512 <= input.size(); block += 512) {
    unsigned sum = 8 * ' ';
    for (size_t i = 0; i < 512; ++i) sum += i >= 148 && i < 156 ? 0 : input[block + i];
    if (sum == 8 * ' ') continue;  // the end stays an end
    char digits[8];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    std::copy(digits, digits + 8, input.begin() + static_cast<std::ptrdiff_t>(block + 148));
  }
  const adatape::FuzzFile file(input.data(), input.size());
  try {
    const adatape::TarShards shards({file.path()});
    for (int64_t i = 0; i < shards.size(); ++i) shards.read(i);
  } catch (const adatape::Error&) {
  }
  return 0;
}
