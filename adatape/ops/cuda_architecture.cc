#include "adatape/ops/cuda_architecture.h"

#include <array>
#include <atomic>

#include "adatape/ops/cuda_kernels.h"

namespace adatape::ops {
namespace {

constexpr int kFirstMajor = 9;  // with thread-block clusters; cmake/AdatapeCuda.cmake compiles for it

std::atomic<CudaMajor> ask_for_major{nullptr};
std::array<std::atomic<int>, 64> known_majors{};  // of devices that were asked about; 0: not yet

int major_of(CudaMajor ask, int device) {
  if (device < 0 || device >= static_cast<int>(known_majors.size())) return ask(device);
  std::atomic<int>& known = known_majors[static_cast<size_t>(device)];
  if (known == 0) known = ask(device);
  return known;
}

}  // namespace

bool has_cuda_kernels_on(c10::Device device) {
  const CudaMajor ask = ask_for_major;
  return device.is_cuda() && has_cuda_kernels() && ask != nullptr && major_of(ask, device.index()) >= kFirstMajor;
}

CudaMajor set_cuda_major(CudaMajor ask) {
  for (std::atomic<int>& known : known_majors) known = 0;
  return ask_for_major.exchange(ask);
}

}  // namespace adatape::ops
