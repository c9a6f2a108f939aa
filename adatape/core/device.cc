#include "adatape/core/device.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <dlfcn.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <string_view>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr const char* kCudaLibrary = "libtorch_cuda.so";
constexpr const char* kOwnKernels = "libadatape_cuda.so";  // beside libadatape_ops.so, where the build found nvcc

struct CudaAnswer {
  int devices = 0;
  std::string reason;  // why there are none
};

// We link the CPU half of torch only; the CUDA half registers itself when it is loaded. Torch remembers the first answer of its CUDA hooks,
// so the device guard is asked, not at::hasCUDA(): a question that came before the library would stick.
CudaAnswer load_cuda() {
  if (::dlopen(kCudaLibrary, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* reason = ::dlerror();
    const std::string text = reason != nullptr ? reason : "not found";
    // The loader names the file that it missed, which may be a library that torch's needs.
    return {0, text.starts_with(kCudaLibrary) ? text : concat(kCudaLibrary, ": ", text)};
  }
  if (!c10::impl::hasDeviceGuardImpl(c10::DeviceType::CUDA)) return {0, concat(kCudaLibrary, ": it registered no device")};
  const int devices = c10::impl::getDeviceGuardImpl(c10::DeviceType::CUDA)->deviceCount();
  if (devices > 0 && ::dlopen(kOwnKernels, RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    const char* reason = ::dlerror();
    std::fprintf(stderr, "adatape: no CUDA kernels of our own, ATen's serve (%s)\n", reason != nullptr ? reason : kOwnKernels);
  }
  return {devices, devices > 0 ? "" : concat(kCudaLibrary, ": loaded, but the driver reports 0 devices")};
}

const CudaAnswer& cuda_answer() {
  static const CudaAnswer answer = load_cuda();
  return answer;
}

}  // namespace

c10::Device parse_device(const std::string& name) {
  if (name == "cpu") return c10::Device(c10::DeviceType::CPU);
  if (name == "auto") return cuda_answer().devices > 0 ? c10::Device(c10::DeviceType::CUDA, 0) : c10::Device(c10::DeviceType::CPU);
  constexpr std::string_view kPrefix = "cuda:";
  int index = 0;
  if (name != "cuda") {
    const char* end = name.data() + name.size();
    const bool has_prefix = name.starts_with(kPrefix);
    const auto parsed =
        has_prefix ? std::from_chars(name.data() + kPrefix.size(), end, index) : std::from_chars_result{name.data(), std::errc{}};
    ADATAPE_CHECK(has_prefix && parsed.ec == std::errc{} && parsed.ptr == end && index >= 0, "device",
                  "expected auto, cpu, cuda or cuda:N, got \"", name, "\"");
  }
  const CudaAnswer& answer = cuda_answer();
  ADATAPE_CHECK(answer.devices > 0, "device", "cuda was asked for but no CUDA device answers here (", answer.reason, "); use --device cpu");
  ADATAPE_CHECK(index < answer.devices, "device", "expected cuda:0 to cuda:", answer.devices - 1, ", got ", name);
  return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
}

int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (int64_t kibibytes = 0; word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

}  // namespace adatape
