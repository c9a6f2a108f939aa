#include "adatape/train/schedule.h"

#include <cmath>
#include <numbers>

namespace adatape {

double learning_rate_at(const TrainingConfig& config, int64_t step) {
  if (step < config.warmup_steps) return config.learning_rate * static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  if (config.schedule == "constant") return config.learning_rate;
  const int64_t falling = config.steps - config.warmup_steps;
  if (falling <= 0 || step >= config.steps) return 0;
  const double progress = static_cast<double>(step - config.warmup_steps) / static_cast<double>(falling);
  return config.learning_rate * 0.5 * (1 + std::cos(std::numbers::pi * progress));
}

}  // namespace adatape
