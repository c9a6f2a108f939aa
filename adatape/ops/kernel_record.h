// What really ran: which kernels served each part of a model, and what the fast path could not serve. Written where the choice is made,
// read by --verbose and by the benchmarks.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace adatape::ops {

// Parts of a model, as they are printed and in this order.
inline constexpr const char* kMatrixProducts = "matrix products";
inline constexpr const char* kNorms = "norms";
inline constexpr const char* kAttention = "attention";
inline constexpr const char* kTapeReading = "tape reading";
inline constexpr const char* kEncoderBlocks = "encoder blocks";
inline constexpr const char* kCpuKernels = "CPU kernels";

struct KernelRecord {
  std::string part, text;  // text: the kernel's name, or why the fast path did not serve
  bool operator==(const KernelRecord& other) const { return part == other.part && text == other.text; }
};

// Each pair is kept once, from any thread.
void record_kernel(const char* part, const std::string& kernel);
void record_fallback(const char* part, const std::string& reason);

// A kernel of this library on vectors of so many floats: `form`, the instructions that it has here and the dtype of its factors, such as
// "packed avx2 float32".
void record_cpu_kernel(const char* part, const char* form, int64_t lanes, const char* factors = "float32");

// "avx512" of 16 lanes; of 8 "avx2", or "plain" where the processor or the build has none.
const char* cpu_instructions(int64_t lanes);

std::vector<KernelRecord> recorded_kernels();
std::vector<KernelRecord> recorded_fallbacks();
std::string recorded_kernels_text();  // "matrix products packed avx2 float32, ATen; attention packed avx2 float32"

}  // namespace adatape::ops

// Runs a call the first time that this place is passed (or a few times, by several threads at once); later it costs a load.
#define ADATAPE_RECORD_ONCE(...)                             \
  do {                                                       \
    static std::atomic<bool> place_is_known{false};          \
    if (!place_is_known.load(std::memory_order_relaxed)) {   \
      __VA_ARGS__;                                           \
      place_is_known.store(true, std::memory_order_relaxed); \
    }                                                        \
  } while (false)
