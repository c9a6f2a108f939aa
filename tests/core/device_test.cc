#include "adatape/core/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

std::string device_error(const std::string& name) {
  try {
    parse_device(name);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Device, Cpu) { EXPECT_TRUE(parse_device("cpu").is_cpu()); }

TEST(Device, NamesThatMeanNothing) {
  for (const char* name : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999", "CPU"}) {
    EXPECT_EQ(device_error(name), concat("device: expected auto, cpu, cuda or cuda:N, got \"", name, "\""));
  }
}

TEST(Device, AutoChoosesAndCudaInsists) {
  const c10::Device chosen = parse_device("auto");
  if (chosen.is_cuda()) {
    EXPECT_EQ(parse_device("cuda"), chosen);
    EXPECT_THAT(device_error("cuda:1000"), HasSubstr("device: expected cuda:0 to cuda:"));
    return;
  }
  EXPECT_EQ(std::getenv("ADATAPE_REQUIRE_CUDA"), nullptr) << device_error("cuda");
  EXPECT_THAT(device_error("cuda"), HasSubstr("device: cuda was asked for but no CUDA device answers here (libtorch_cuda.so: "));
  EXPECT_THAT(device_error("cuda:0"), HasSubstr("; use --device cpu"));
}

TEST(Device, PeakMemoryCountsWhatWasTouched) {
  const std::vector<char> memory(64 << 20, 'x');
  EXPECT_GT(peak_resident_bytes(), 64 << 20) << memory[0];
  EXPECT_LT(peak_resident_bytes(), int64_t{1} << 40) << "bytes, not KiB twice over";
}

}  // namespace
}  // namespace adatape
