// The order in which an epoch visits its examples.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

namespace adatape {

// Permutations of 0 .. size - 1, a function of (seed, epoch) alone (Fisher-Yates on counter-based numbers, O(size) once an epoch). The last
// few are kept, since neighbouring batches share them. Thread-safe.
class EpochOrder {
 public:
  using Permutation = std::shared_ptr<const std::vector<uint32_t>>;

  explicit EpochOrder(int64_t size);
  Permutation permutation(uint64_t seed, uint64_t epoch);

 private:
  struct Kept {
    uint64_t seed, epoch;
    Permutation permutation;
  };
  const int64_t size_;
  std::mutex mutex_;
  std::list<Kept> kept_;  // latest use first; guarded by mutex_
};

}  // namespace adatape
