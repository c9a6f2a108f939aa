// The version of the program, as --version, run.json and model files give it. CMakeLists.txt says the same; a test compares them.
#pragma once

#include <torch/headeronly/version.h>

#include <string>

namespace adatape {

inline constexpr const char* kVersion = "0.1.0";

// "2.11.0": the LibTorch that this was compiled with.
inline std::string torch_version() { return TORCH_VERSION; }

}  // namespace adatape
