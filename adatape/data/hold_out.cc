#include "adatape/data/hold_out.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "adatape/core/check.h"

namespace adatape {
namespace {

uint64_t hash_of(const std::string& text) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a, then the finaliser of MurmurHash3: neighbouring names should lie far apart
  for (const char letter : text) hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001b3;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccd;
  hash = (hash ^ (hash >> 33)) * 0xc4ceb9fe1a85ec53;
  return hash ^ (hash >> 33);
}

}  // namespace

std::vector<bool> hold_out(const std::vector<std::string>& names, int64_t count) {
  const auto size = static_cast<int64_t>(names.size());
  ADATAPE_CHECK(size >= 2, "data", "expected at least 2 training pictures, so that one can be held out for validation, got ", size);
  const auto taken = static_cast<size_t>(std::clamp<int64_t>(std::min(count, size / 10), 1, size - 1));
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < names.size(); ++i) order.emplace_back(hash_of(names[i]), i);
  std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(taken), order.end());
  std::vector<bool> held(names.size());
  for (size_t i = 0; i < taken; ++i) held[order[i].second] = true;
  return held;
}

}  // namespace adatape
