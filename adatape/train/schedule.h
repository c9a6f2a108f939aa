// The learning rate of each step.
#pragma once

#include <cstdint>

#include "adatape/train/run_config.h"

namespace adatape {

// The learning rate of step 0 .. steps - 1 of a draw: rises linearly over warmup_steps (the first step already moves: step 0 has
// 1 / warmup_steps of the peak), then stays (`constant`) or falls as half a cosine that would reach 0 at step `steps` (`cosine`).
double learning_rate_at(const TrainingConfig& config, int64_t step);

}  // namespace adatape
