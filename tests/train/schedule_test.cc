#include "adatape/train/schedule.h"

#include <gtest/gtest.h>

namespace adatape {
namespace {

TEST(Schedule, RisesThenFallsAsACosineToZero) {
  TrainingConfig config;
  config.learning_rate = 2;
  config.steps = 110;
  config.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 9), 2);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 10), 2);
  EXPECT_NEAR(learning_rate_at(config, 60), 1, 1e-12);
  EXPECT_NEAR(learning_rate_at(config, 35), 1 + std::sqrt(0.5), 1e-12);
  EXPECT_GT(learning_rate_at(config, 109), 0);
  EXPECT_LT(learning_rate_at(config, 109), 0.001);
  EXPECT_EQ(learning_rate_at(config, 110), 0);
}

TEST(Schedule, ConstantStays) {
  TrainingConfig config;
  config.schedule = "constant";
  config.learning_rate = 0.5;
  config.warmup_steps = 4;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 1), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 999), 0.5);
}

TEST(Schedule, WarmUpMayBeAbsentOrLongerThanTheRun) {
  TrainingConfig config;
  config.steps = 5;
  config.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 0), config.learning_rate);
  config.warmup_steps = 10;
  EXPECT_DOUBLE_EQ(learning_rate_at(config, 4), config.learning_rate / 2);
}

}  // namespace
}  // namespace adatape
