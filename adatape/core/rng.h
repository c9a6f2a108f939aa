// Counter-based random numbers (Philox 4x32-10): a value is a function of (seed, step, example, site, index), never of the place in a
// batch, so results do not depend on batch mates, gradient accumulation or a resume.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

namespace adatape {

// What a number is drawn for; two sites never share numbers. Blocks and readers add their index: site(Site::kDropout, block).
enum class Site : uint32_t {
  kData = 1,
  kParameters,
  kDropout,
  kStochasticDepth,
  kQueryNoise,
  kBankMask,
  kSelection,
  kShuffle,
  kAugment,
  kThreshold,
  kHalting,
  kRouterNoise,
  kSampling,
  kPositions
};
constexpr uint32_t site(Site base, uint32_t index = 0) { return static_cast<uint32_t>(base) + (index << 8); }

// The raw generator: 4 x 32 random bits of a 128-bit counter and a 64-bit key (Salmon et al., SC 2011).
std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A stream for one (seed, step, site, example).
class CounterRng {
 public:
  CounterRng(uint64_t seed, uint64_t step, uint32_t site, uint64_t example);
  uint32_t bits() {  // next 32 random bits
    if (used_ == filled_) refill();
    return words_[used_++];
  }
  double uniform();                // [0, 1)
  double normal();                 // N(0, 1), Box-Muller
  uint64_t below(uint64_t bound);  // 0 .. bound - 1 without modulo bias
 private:
  void refill();
  std::array<uint32_t, 4> counter_;
  std::array<uint32_t, 2> key_;
  std::array<uint32_t, 16> words_{};  // of the next blocks
  size_t used_ = 0, filled_ = 0;
};

// examples: int64 [B] on the CPU; returns float32 [B, count] on the CPU, row b depends on (seed, step, site, examples[b]) alone.
at::Tensor counter_uniform(uint64_t seed, uint64_t step, uint32_t site, const at::Tensor& examples, int64_t count);
at::Tensor counter_normal(uint64_t seed, uint64_t step, uint32_t site, const at::Tensor& examples, int64_t count);

}  // namespace adatape
