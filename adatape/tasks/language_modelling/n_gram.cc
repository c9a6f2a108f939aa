#include "adatape/tasks/language_modelling/n_gram.h"

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"

namespace adatape {
namespace {

uint32_t last_bytes(uint32_t key, size_t count) { return count >= 4 ? key : key & ((uint32_t{1} << (8 * count)) - 1); }

}  // namespace

NGram::NGram(int order, const std::vector<std::string>& texts) {
  ADATAPE_CHECK(order >= 1 && order <= 3, "n-gram", "expected an order of 1 to 3, got ", order);
  levels_.resize(static_cast<size_t>(order) + 1);
  // Every run of order + 1 bytes, a number each; the start of a piece, where there are fewer, is left out.
  const auto length = static_cast<size_t>(order) + 1;
  for (const std::string& text : texts) {
    uint32_t key = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      key = last_bytes((key << 8) | static_cast<uint8_t>(text[i]), length);
      if (i + 1 >= length) ++levels_.back().counts[key];
    }
  }
  for (size_t n = levels_.size(); n-- > 0;) {
    Level& level = levels_[n];
    if (n + 1 < levels_.size()) {  // each different byte before counts once
      for (const auto& [key, count] : levels_[n + 1].counts) ++level.counts[last_bytes(key, n + 1)];
    }
    double once = 0, twice = 0;
    for (const auto& [key, count] : level.counts) {
      Context& context = level.contexts[key >> 8];
      context.total += count;
      ++context.different;
      once += count == 1;
      twice += count == 2;
    }
    level.discount = once > 0 ? once / (once + 2 * twice) : 0.5;
  }
}

double NGram::probability(const std::string& context, uint8_t byte) const {
  double probability = 1.0 / 256;
  uint32_t key = 0;
  for (size_t n = 0; n < levels_.size() && n <= context.size(); ++n) {
    if (n > 0) key |= static_cast<uint32_t>(static_cast<uint8_t>(context[context.size() - n])) << (8 * (n - 1));
    const Level& level = levels_[n];
    const auto seen = level.contexts.find(key);
    if (seen == level.contexts.end()) break;  // longer ones were not seen either
    const auto found = level.counts.find((key << 8) | byte);
    const double count = found == level.counts.end() ? 0 : found->second;
    probability = (std::max(count - level.discount, 0.0) + level.discount * seen->second.different * probability) / seen->second.total;
  }
  return probability;
}

double NGram::bits(const std::string& text) const {
  double bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t begin = i >= levels_.size() - 1 ? i - (levels_.size() - 1) : 0;
    bits -= std::log2(probability(text.substr(begin, i - begin), static_cast<uint8_t>(text[i])));
  }
  return bits;
}

double NGram::bits_per_byte(const std::vector<std::string>& windows, size_t first) const {
  double bits = 0, bytes = 0;
  for (const std::string& window : windows) {
    for (size_t i = std::max<size_t>(first, 1); i < window.size(); ++i) {
      const size_t begin = i >= levels_.size() - 1 ? i - (levels_.size() - 1) : 0;
      bits -= std::log2(probability(window.substr(begin, i - begin), static_cast<uint8_t>(window[i])));
      ++bytes;
    }
  }
  return bytes > 0 ? bits / bytes : 0;
}

}  // namespace adatape
