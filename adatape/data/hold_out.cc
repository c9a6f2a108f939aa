#include "adatape/data/hold_out.h"

#include <algorithm>
#include <map>
#include <queue>
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

// The examples of one class, and how many of them are held out so far.
struct Class {
  int32_t label = 0;
  std::vector<std::pair<uint64_t, size_t>> examples;  // hash of the name, index
  uint64_t held = 0;
};

// Whether a's turn comes after b's. A class of which none is held out goes first; then the one whose share is the least filled, by
// Sainte-Lague's divisors 1, 3, 5 ..., which favour neither large classes nor small ones.
bool comes_later(const Class* a, const Class* b) {
  if ((a->held == 0) != (b->held == 0)) return b->held == 0;
  const uint64_t of_a = a->examples.size() * (2 * b->held + 1), of_b = b->examples.size() * (2 * a->held + 1);
  return of_a != of_b ? of_a < of_b : a->label > b->label;
}

}  // namespace

std::vector<bool> hold_out(const std::vector<std::string>& names, const std::vector<int32_t>& labels, int64_t count) {
  std::map<int32_t, Class> classes;
  for (size_t i = 0; i < names.size(); ++i) {
    Class& one = classes[labels[i]];
    one.label = labels[i];
    one.examples.emplace_back(hash_of(names[i]), i);
  }
  std::priority_queue<Class*, std::vector<Class*>, decltype(&comes_later)> turns(&comes_later);
  for (auto& [label, one] : classes) {
    if (one.examples.size() >= 2) turns.push(&one);
  }
  ADATAPE_CHECK(!turns.empty(), "data",
                "expected at least 2 training pictures of some class, so that one can be held out for validation, got ", names.size(),
                " in ", classes.size(), classes.size() == 1 ? " class" : " classes");
  const int64_t share = std::max<int64_t>(1, std::min(count, static_cast<int64_t>(names.size()) / 10));
  for (int64_t taken = 0; !turns.empty() && (taken < share || (turns.top()->held == 0 && taken < count)); ++taken) {
    Class* one = turns.top();
    turns.pop();
    if (++one->held + 1 < one->examples.size()) turns.push(one);
  }
  std::vector<bool> held(names.size());
  for (auto& [label, one] : classes) {
    const auto end = one.examples.begin() + static_cast<std::ptrdiff_t>(one.held);
    std::nth_element(one.examples.begin(), end, one.examples.end());
    for (auto each = one.examples.begin(); each != end; ++each) held[each->second] = true;
  }
  return held;
}

std::vector<size_t> mixed_order(const std::vector<std::string>& names) {
  std::vector<std::pair<uint64_t, size_t>> places;
  // Not the hash that hold_out goes by: of what it chose, the classes with a small share would all come first.
  for (size_t i = 0; i < names.size(); ++i) places.emplace_back(hash_of("order " + names[i]), i);
  std::sort(places.begin(), places.end());
  std::vector<size_t> order;
  for (const auto& [hash, index] : places) order.push_back(index);
  return order;
}

}  // namespace adatape
