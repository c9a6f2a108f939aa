// How the identity of a number becomes Philox's input (256 bits of identity, 192 of input):
//   1. (hash0 .. hash3) = philox(counter = {step low, step high, site, 0}, key = seed): for a seed, a bijection of (step, site).
//   2. the 4 numbers of block k of an example = philox(counter = {k, hash2, example low, example high}, key = {hash0, hash1}).
// Within (seed, step, site) no two (example, block) share a counter; two (step, site) share a stream only where 96 hashed bits collide.
#include "adatape/core/rng.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr uint32_t low_bits(uint64_t value) { return static_cast<uint32_t>(value); }
constexpr uint32_t high_bits(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

// One of ten rounds on one counter, in place; constants of Salmon et al.
inline void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t k0, uint32_t k1) {
  const uint64_t product0 = uint64_t{0xD2511F53} * c0;
  const uint64_t product1 = uint64_t{0xCD9E8D57} * c2;
  c0 = high_bits(product1) ^ c1 ^ k0;
  c1 = low_bits(product1);
  c2 = high_bits(product0) ^ c3 ^ k1;
  c3 = low_bits(product0);
}
constexpr uint32_t kKeyStep0 = 0x9E3779B9, kKeyStep1 = 0xBB67AE85;

inline void philox_rounds(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round, k0 += kKeyStep0, k1 += kKeyStep1) philox_round(c0, c1, c2, c3, k0, k1);
}

// Ten rounds on four counters that differ in their first word: c0 .. c0 + 3.
inline void philox_rounds_of_four(std::array<uint32_t, 4> counter, uint32_t k0, uint32_t k1, uint32_t* words) {
  uint32_t c[4][4];
  for (uint32_t i = 0; i < 4; ++i) {
    for (size_t w = 0; w < 4; ++w) c[w][i] = counter[w];
    c[0][i] += i;
  }
  for (int round = 0; round < 10; ++round, k0 += kKeyStep0, k1 += kKeyStep1) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) philox_round(c[0][i], c[1][i], c[2][i], c[3][i], k0, k1);
  }
  for (int i = 0; i < 4; ++i) {
    for (int w = 0; w < 4; ++w) words[4 * i + w] = c[w][i];
  }
}

std::array<uint32_t, 4> stream_hash(uint64_t seed, uint64_t step, uint32_t site) {
  return philox({low_bits(step), high_bits(step), site, 0}, {low_bits(seed), high_bits(seed)});
}

// Fills float32 [B, count] from blocks of four random words; block_to_floats turns a block into four floats.
template <class BlockToFloats>
at::Tensor fill_rows(uint64_t seed, uint64_t step, uint32_t site, const at::Tensor& examples, int64_t count,
                     const BlockToFloats& block_to_floats) {
  ADATAPE_CHECK(examples.defined() && examples.scalar_type() == at::kLong && examples.dim() == 1 && examples.device().is_cpu(), "rng",
                "expected examples as int64 [B] on the CPU, got ",
                examples.defined() ? concat(examples.scalar_type(), " ", examples.sizes(), " on ", examples.device()) : "none");
  ADATAPE_CHECK(count >= 0 && count <= (int64_t{1} << 34), "rng", "expected 0 to 2^34 numbers an example, got ", count);
  const at::Tensor ids = examples.contiguous();
  const int64_t batch = ids.size(0), row_blocks = (count + 3) / 4;
  at::Tensor values = at::empty({batch, count}, at::kFloat);
  const int64_t* id = ids.const_data_ptr<int64_t>();
  float* value = values.mutable_data_ptr<float>();
  const auto hash = stream_hash(seed, step, site);
  // Blocks, not rows, are shared out: a batch of one long example uses all cores too.
  at::parallel_for(0, batch * row_blocks, 2048, [&](int64_t begin, int64_t end) {
    int64_t row = begin / row_blocks, block = begin % row_blocks;
    for (int64_t item = begin; item < end; ++item) {
      const auto example = static_cast<uint64_t>(id[row]);
      uint32_t c0 = static_cast<uint32_t>(block), c1 = hash[2], c2 = low_bits(example), c3 = high_bits(example);
      philox_rounds(c0, c1, c2, c3, hash[0], hash[1]);
      const std::array<float, 4> drawn = block_to_floats(std::array<uint32_t, 4>{c0, c1, c2, c3});
      std::copy_n(drawn.begin(), std::min<int64_t>(4, count - 4 * block), value + row * count + 4 * block);
      if (++block == row_blocks) {
        block = 0;
        ++row;
      }
    }
  });
  return values;
}

}  // namespace

std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  philox_rounds(counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
  return counter;
}

CounterRng::CounterRng(uint64_t seed, uint64_t step, uint32_t site, uint64_t example) {
  const auto hash = stream_hash(seed, step, site);
  key_ = {hash[0], hash[1]};
  counter_ = {0, hash[2], low_bits(example), high_bits(example)};
}

void CounterRng::refill() {
  // A block alone waits for itself round after round, four of them take hardly longer; a stream's first block may be all that is asked for.
  constexpr uint32_t kTogether = 4, kLast = 0xFFFFFFFF - kTogether;
  const bool one = counter_[0] == 0 || counter_[0] > kLast;
  if (one) {
    const std::array<uint32_t, 4> block = philox(counter_, key_);
    std::copy(block.begin(), block.end(), words_.begin());
  } else {
    philox_rounds_of_four(counter_, key_[0], key_[1], words_.data());
  }
  counter_[0] += one ? 1 : kTogether;
  if (counter_[0] == 0) ++counter_[1];
  used_ = 0;
  filled_ = one ? 4 : words_.size();
}

double CounterRng::uniform() {
  const uint64_t high = bits() >> 5, low = bits() >> 6;  // 27 + 26 = 53 bits, all that a double holds
  return static_cast<double>((high << 26) | low) * 0x1p-53;
}

double CounterRng::normal() {
  const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - [0, 1) is never 0
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

uint64_t CounterRng::below(uint64_t bound) {
  ADATAPE_CHECK(bound > 0, "rng", "expected a bound > 0, got 0");
  // Lemire, "Fast random integer generation in an interval" (2019): the high half of word x bound, rejecting the biased low halves. There
  // are less than `bound` of these: the division that counts them is hardly ever needed.
  __extension__ using Wide = unsigned __int128;
  while (true) {
    const uint64_t high = bits(), low = bits();
    const Wide product = Wide{(high << 32) | low} * bound;
    if (static_cast<uint64_t>(product) >= bound || static_cast<uint64_t>(product) >= (uint64_t{0} - bound) % bound)
      return static_cast<uint64_t>(product >> 64);
  }
}

at::Tensor counter_uniform(uint64_t seed, uint64_t step, uint32_t site, const at::Tensor& examples, int64_t count) {
  return fill_rows(seed, step, site, examples, count, [](const std::array<uint32_t, 4>& bits) {
    std::array<float, 4> drawn;
    for (size_t i = 0; i < 4; ++i) drawn[i] = static_cast<float>(bits[i] >> 8) * 0x1p-24f;  // 24 bits: all that a float holds below 1
    return drawn;
  });
}

at::Tensor counter_normal(uint64_t seed, uint64_t step, uint32_t site, const at::Tensor& examples, int64_t count) {
  return fill_rows(seed, step, site, examples, count, [](const std::array<uint32_t, 4>& bits) {
    std::array<float, 4> drawn;
    for (size_t i = 0; i < 4; i += 2) {
      // All 32 bits in the radius: the tail reaches 6.7 sigma; half a step up keeps the logarithm finite.
      const float radius = std::sqrt(-2.0f * std::log(static_cast<float>(bits[i]) * 0x1p-32f + 0x1p-33f));
      const float angle = static_cast<float>(bits[i + 1] >> 8) * (2.0f * std::numbers::pi_v<float> * 0x1p-24f);
      drawn[i] = radius * std::cos(angle);
      drawn[i + 1] = radius * std::sin(angle);
    }
    return drawn;
  });
}

}  // namespace adatape
