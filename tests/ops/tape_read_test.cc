#include "adatape/ops/tape_read/tape_read.h"

#include <gtest/gtest.h>

namespace adatape::ops {
TEST(TapeRead, ReadsABank) {
  auto query = torch::randn({2, 8}, torch::requires_grad()), bank = torch::randn({9, 8}, torch::requires_grad());
  auto offsets = torch::tensor({0, 4, 9}, at::kLong);
  auto [tokens, weights, indices, lengths, ponder, halting] =
      tape_read(query, bank, offsets, torch::ones(8), torch::zeros(8), {.key_width = 4, .max_steps = 4, .rows_per_step = 2});
  EXPECT_EQ(lengths[0].item<int64_t>(), 2);
  (tokens.sum() + ponder.sum()).backward();
  EXPECT_TRUE(bank.grad().defined());
}
}  // namespace adatape::ops
