#include "adatape/nn/relative_buckets.h"

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"
#include "adatape/nn/pack_layout.h"

namespace adatape {

int64_t relative_bucket(int64_t distance, bool bidirectional, int64_t buckets, int64_t max_distance) {
  int64_t first = 0, behind = -distance;  // how far the key lies behind the query
  if (bidirectional) {
    buckets /= 2;
    if (distance > 0) first = buckets;
    behind = std::abs(distance);
  }
  behind = std::max<int64_t>(behind, 0);
  const int64_t exact = buckets / 2;
  if (behind < exact) return first + behind;
  // In float and in this order, as published weights were trained: the last bit decides where a bucket ends.
  const float share = std::log(static_cast<float>(behind) / static_cast<float>(exact)) /
                      static_cast<float>(std::log(static_cast<double>(max_distance) / static_cast<double>(exact)));
  const auto further = static_cast<int64_t>(share * static_cast<float>(buckets - exact));
  return first + std::min(exact + further, buckets - 1);
}

RelativeBuckets::RelativeBuckets(int64_t buckets, int64_t max_distance_, int64_t heads, bool bidirectional_)
    : max_distance(max_distance_), bidirectional(bidirectional_) {
  const int64_t exact = buckets / (bidirectional ? 4 : 2);
  ADATAPE_CHECK(exact >= 1 && max_distance > exact, "relative positions", "expected at least ", bidirectional ? 4 : 2,
                " buckets and a largest distance > ", exact, ", got ", buckets, " and ", max_distance);
  weight = register_parameter("weight", torch::zeros({buckets, heads}));
}

torch::Tensor RelativeBuckets::table(int64_t reach) const {
  std::vector<int64_t> rows;
  rows.reserve(static_cast<size_t>(2 * reach + 1));
  for (int64_t distance = -reach; distance <= reach; ++distance)
    rows.push_back(relative_bucket(distance, bidirectional, weight.size(0), max_distance));
  return weight.index_select(0, index_tensor(rows, weight.device())).t();
}

}  // namespace adatape
