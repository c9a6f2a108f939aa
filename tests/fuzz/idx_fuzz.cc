// IDX files, plain and gzip.
#include "adatape/core/check.h"
#include "adatape/data/idx.h"
#include "tests/fuzz/fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const adatape::FuzzFile file(bytes, size);
  try {
    adatape::read_idx(file.path());
  } catch (const adatape::Error&) {
  }
  return 0;
}
