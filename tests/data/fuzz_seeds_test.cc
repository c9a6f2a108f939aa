// The seeds of tests/fuzz through the code of its harnesses, without clang: whole, cut off, and against what their names say.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>

#include "adatape/data/idx.h"
#include "adatape/data/tar_shards.h"
#include "tests/fuzz/fuzz_file.h"
#include "tests/fuzz/fuzz_picture.h"

#define LLVMFuzzerTestOneInput fuzz_jpeg
#include "tests/fuzz/jpeg_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_png
#include "tests/fuzz/png_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_idx
#include "tests/fuzz/idx_fuzz.cc"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput fuzz_tar
#include "tests/fuzz/tar_fuzz.cc"
#undef LLVMFuzzerTestOneInput

namespace adatape {
namespace {

namespace fs = std::filesystem;

struct Format {
  int (*harness)(const uint8_t*, size_t);
  std::function<void(const std::string& bytes)> read;  // Error for what has to be refused
};

std::map<std::string, Format> formats() {
  const auto picture = [](const std::string& bytes) {
    decode_picture({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "seed"});
  };
  const auto with_path = [](const auto& read) {
    return [read](const std::string& bytes) {
      const FuzzFile file(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
      read(file.path());
    };
  };
  return {{"jpeg", {fuzz_jpeg, picture}},
          {"png", {fuzz_png, picture}},
          {"idx", {fuzz_idx, with_path([](const std::string& path) { read_idx(path); })}},
          {"tar", {fuzz_tar, with_path([](const std::string& path) { TarShards({path}); })}}};
}

std::map<std::string, std::string> seeds_of(const std::string& format) {
  std::map<std::string, std::string> seeds;
  for (const auto& entry : fs::directory_iterator(fs::path(ADATAPE_SOURCE_DIR) / "tests/fuzz/seeds" / format)) {
    std::ifstream stream(entry.path(), std::ios::binary);
    seeds[entry.path().filename().string()] = {std::istreambuf_iterator<char>(stream), {}};
  }
  return seeds;
}

TEST(FuzzSeedsTest, AreReadOrRefusedAsTheirNamesSay) {
  for (const auto& [name, format] : formats()) {
    const auto seeds = seeds_of(name);
    EXPECT_GE(seeds.size(), 20u) << name;
    for (const auto& [seed, bytes] : seeds) {
      SCOPED_TRACE(name + "/" + seed);
      if (seed.starts_with("bad_")) {
        EXPECT_THROW(format.read(bytes), Error);
      } else {
        EXPECT_NO_THROW(format.read(bytes));
      }
    }
  }
}

TEST(FuzzSeedsTest, NeverCrashTheirHarness) {
  for (const auto& [name, format] : formats()) {
    for (const auto& [seed, bytes] : seeds_of(name)) {
      SCOPED_TRACE(name + "/" + seed);
      const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
      for (size_t size = bytes.size();; size -= std::min(size, 1 + bytes.size() / 128)) {
        EXPECT_EQ(format.harness(data, size), 0);
        if (size == 0) break;
      }
    }
  }
}

}  // namespace
}  // namespace adatape
