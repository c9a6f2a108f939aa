#include "adatape/nn/look_up.h"

#include <torch/csrc/autograd/autograd.h>

#include "tests/error_of.h"
#include "tests/nn/nn_cases.h"

namespace adatape::testing {
namespace {

TEST(LookUpTest, EqualsIndexSelectBothWays) {
  const torch::Tensor index = torch::tensor({2, 0, 2, 4, 2}, torch::kInt64);
  for (const int64_t width : {1, 5, 32}) {
    const torch::Tensor table = random_tensor({width, 5}, 1).t().requires_grad_(), grad = random_tensor({5, width}, 2);
    const torch::Tensor got = look_up(table, index), expected = table.index_select(0, index);
    EXPECT_TRUE(got.equal(expected));
    EXPECT_LE(largest_difference(torch::autograd::grad({got}, {table}, {grad})[0], torch::autograd::grad({expected}, {table}, {grad})[0]),
              1e-6);
  }
  EXPECT_EQ(look_up(torch::zeros({3, 4}), torch::zeros({0}, torch::kInt64)).sizes(), (std::vector<int64_t>{0, 4}));
}

TEST(LookUpTest, NumbersBeyondTheTableAreTold) {
  EXPECT_THAT(error_of([] {
                look_up(torch::zeros({3, 4}), torch::tensor({0, 3}, torch::kInt64));
              }),
              ::testing::HasSubstr("expected numbers 0 .. 2, got 3"));
  EXPECT_THAT(error_of([] {
                look_up(torch::zeros({3, 4}), torch::tensor({-1}, torch::kInt64));
              }),
              ::testing::HasSubstr("expected numbers 0 .. 2, got -1"));
}

}  // namespace
}  // namespace adatape::testing
