// Mixup: pairs of training images shown through each other. Source: arXiv 1710.09412.
#pragma once

#include <cstdint>

#include "adatape/core/batch.h"

namespace adatape {

// Mixes examples 2k and 2k + 1 of a batch of even size: with a share s >= 1/2 of itself, drawn from Beta(alpha, alpha) by (seed,
// first_pair + k), and 1 - s of the other one. Sets other_labels and label_weights.
void mix_pairs(Batch& batch, double alpha, uint64_t seed, uint64_t first_pair);

}  // namespace adatape
