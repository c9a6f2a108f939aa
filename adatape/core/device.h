// Which device a name means, with an error a person can act on where there is none.
#pragma once

#include <c10/core/Device.h>

#include <string>

namespace adatape {

// "cpu", "cuda", "cuda:N" or "auto" (cuda where a device answers, else cpu). Loads libtorch_cuda at the first request for CUDA; Error when
// it or a device is missing. Never silently falls back: only "auto" chooses.
c10::Device parse_device(const std::string& name);

// Peak resident memory of this process in bytes (VmHWM).
int64_t peak_resident_bytes();

}  // namespace adatape
