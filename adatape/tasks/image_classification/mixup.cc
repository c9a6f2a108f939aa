#include "adatape/tasks/image_classification/mixup.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"

namespace adatape {
namespace {

// Gamma(shape, 1) by Marsaglia and Tsang (2000); a shape below 1 by its boost.
double draw_gamma(double shape, CounterRng& random) {
  if (shape < 1) {
    const double raised = draw_gamma(shape + 1, random);
    return raised * std::pow(1 - random.uniform(), 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = random.normal(), root = 1 + c * x, v = root * root * root;
    if (root > 0 && std::log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

// Of Beta(alpha, alpha), the larger side.
float draw_share(double alpha, CounterRng& random) {
  const double one = draw_gamma(alpha, random), other = draw_gamma(alpha, random);
  const double share = one + other > 0 ? one / (one + other) : 1;  // both may be too small for a number
  return static_cast<float>(std::max(share, 1 - share));
}

}  // namespace

void mix_pairs(Batch& batch, double alpha, uint64_t seed, uint64_t first_pair) {
  const int64_t size = batch.size();
  ADATAPE_CHECK(size % 2 == 0, "mixup", "expected an even training.batch_size, so that no pair is torn, got ", size);
  batch.other_labels = at::empty({size}, at::kLong);
  batch.label_weights = at::empty({size}, at::kFloat);
  const int64_t numbers = batch.images.numel() / std::max<int64_t>(size, 1);
  const int64_t* labels = batch.labels.const_data_ptr<int64_t>();
  for (int64_t first = 0; first < size; first += 2) {
    CounterRng random(seed, 0, site(Site::kAugment, 1), first_pair + static_cast<uint64_t>(first / 2));
    const float share = draw_share(alpha, random), rest = 1 - share;
    float *one = batch.images.data_ptr<float>() + first * numbers, *other = one + numbers;
    for (int64_t i = 0; i < numbers; ++i) {
      const float a = one[i], b = other[i];
      one[i] = share * a + rest * b;
      other[i] = share * b + rest * a;
    }
    for (const int64_t i : {first, first + 1}) {
      batch.other_labels.data_ptr<int64_t>()[i] = labels[first + first + 1 - i];
      batch.label_weights.data_ptr<float>()[i] = share;
    }
  }
}

}  // namespace adatape
