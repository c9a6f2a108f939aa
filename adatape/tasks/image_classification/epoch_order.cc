#include "adatape/tasks/image_classification/epoch_order.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"

namespace adatape {
namespace {

constexpr size_t kKept = 4;  // prefetching workers straddle one border between epochs, two runs in one process another

}  // namespace

EpochOrder::EpochOrder(int64_t size) : size_(size) {
  ADATAPE_CHECK(size >= 1 && size <= std::numeric_limits<uint32_t>::max(), "epoch order", "expected 1 .. 2^32 - 1 examples, got ", size);
}

EpochOrder::Permutation EpochOrder::permutation(uint64_t seed, uint64_t epoch) {
  // The lock is held while a permutation is made: other workers want the same one.
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.seed == seed && kept.epoch == epoch; });
  if (found != kept_.end()) {
    kept_.splice(kept_.begin(), kept_, found);
    return kept_.front().permutation;
  }
  auto order = std::make_shared<std::vector<uint32_t>>(static_cast<size_t>(size_));
  std::iota(order->begin(), order->end(), 0u);
  CounterRng random(seed, epoch, site(Site::kShuffle), 0);
  for (size_t last = order->size() - 1; last > 0; --last) std::swap((*order)[last], (*order)[random.below(last + 1)]);
  kept_.push_front({seed, epoch, order});
  if (kept_.size() > kKept) kept_.pop_back();
  return order;
}

}  // namespace adatape
