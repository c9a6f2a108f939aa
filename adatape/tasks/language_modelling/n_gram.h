// The rival of byte-level language models: an n-gram with interpolated Kneser-Ney smoothing. Source: Kneser and Ney, ICASSP 1995; Chen and
// Goodman, Computer Speech and Language 13 (1999), equation 24.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace adatape {

// Of the longest context (1 to 3 bytes, `order`) bytes are counted as often as they follow it; of a shorter one, by how many different
// bytes stand before the two. p(b | context) = (count - D) / total + D x different / total x p(b | shorter context), below all contexts 1 /
// 256; D = n1 / (n1 + 2 n2) of each order, n1 and n2 the entries that were counted once and twice.
class NGram {
 public:
  // texts: pieces that do not continue each other.
  NGram(int order, const std::vector<std::string>& texts);

  // P(byte | the last `order` bytes of context, or as many as there are).
  double probability(const std::string& context, uint8_t byte) const;
  // -log2 P of a text, its first byte without a context.
  double bits(const std::string& text) const;
  // Mean of -log2 P over the bytes first .. (>= 1) of each window, each given those before it in its window alone. 0 without any.
  double bits_per_byte(const std::vector<std::string>& windows, size_t first = 1) const;

 private:
  struct Context {
    double total = 0, different = 0;
  };
  struct Level {  // contexts of one length
    double discount = 0;
    std::unordered_map<uint32_t, double> counts;     // context and byte
    std::unordered_map<uint32_t, Context> contexts;  // context
  };
  std::vector<Level> levels_;  // by length of the context
};

}  // namespace adatape
