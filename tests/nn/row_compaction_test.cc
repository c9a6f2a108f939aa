#include "adatape/nn/row_compaction.h"

#include "nn_cases.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

RowCompaction compaction(const std::vector<int64_t>& halts) { return RowCompaction(torch::tensor(halts, torch::kInt64).to(torch::kBool)); }

TEST(RowCompactionTest, RowsFromTheEndFillTheGaps) {
  const RowCompaction some = compaction({0, 1, 0, 1, 1, 0, 0});
  EXPECT_THAT(some.leave, ElementsAre(1, 3, 4));
  EXPECT_THAT(some.stay, ElementsAre(0, 6, 2, 5));
  EXPECT_THAT(compaction({1, 1}).stay, IsEmpty());
  EXPECT_THAT(compaction({0, 0}).stay, ElementsAre(0, 1));
  EXPECT_THAT(compaction({1, 0}).stay, ElementsAre(1));
  EXPECT_THAT(compaction({}).leave, IsEmpty());
}

TEST(RowCompactionTest, KeptInPlaceOrAsACopy) {
  const std::vector<int64_t> stay = compaction({0, 1, 0, 1, 1, 0, 0}).stay;
  const torch::Tensor x = torch::arange(14, torch::kFloat).view({7, 2}), expected = x.index_select(0, torch::tensor({0, 6, 2, 5}));
  EXPECT_TRUE(keep_rows(x, stay).equal(expected));
  EXPECT_TRUE(x.equal(torch::arange(14, torch::kFloat).view({7, 2})));  // gradients are on: x is as it was
  torch::NoGradGuard no_grad;
  const torch::Tensor kept = keep_rows(x, stay);
  EXPECT_TRUE(kept.equal(expected));
  EXPECT_EQ(kept.data_ptr(), x.data_ptr());
}

TEST(RowCompactionTest, Gradients) {
  testing::expect_gradients(
      [](const std::vector<torch::Tensor>& x) {
        return keep_rows(x[0], {0, 3, 2});
      },
      {testing::random_tensor({4, 2}, 1)});
}

}  // namespace
}  // namespace adatape
