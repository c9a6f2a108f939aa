// Which CUDA devices libadatape_cuda.so has code for.
#pragma once

#include <c10/core/Device.h>

namespace adatape::ops {

// Whether the kernels of libadatape_cuda.so run on this device: it is loaded, and the device is one of those that it is compiled for,
// compute capability 9.0 (H100, H200) and above. The driver is asked once a device.
bool has_cuda_kernels_on(c10::Device device);

// The major number of a device's compute capability; a negative device is the current one. Set by libadatape_cuda.so (and by tests);
// returns what was there before.
using CudaMajor = int (*)(int device);
CudaMajor set_cuda_major(CudaMajor ask);

}  // namespace adatape::ops
