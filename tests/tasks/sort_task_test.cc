#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "task_cases.h"

namespace adatape {
namespace {

using testing::refusal_of;
using testing::task_of;

TEST(SortTask, AnswersNameTheNumbersInOrder) {
  const auto task = task_of("sort");
  const Batch batch = task->training_batch(1, 2, 300);
  std::set<int64_t> counts;
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t begin = batch.offsets[b], numbers = (batch.offsets[b + 1] - begin) / 2;
    counts.insert(numbers);
    EXPECT_EQ(task->example_covariate(batch)[b].item<float>(), static_cast<float>(numbers));
    const at::Tensor values = batch.vectors.slice(0, begin, begin + numbers);
    EXPECT_EQ(values.select(1, 1).sum().item<float>(), 1);
    EXPECT_EQ(values[numbers - 1][1].item<float>(), 1);  // the flag
    EXPECT_EQ(batch.vectors.slice(0, begin + numbers, begin + 2 * numbers).abs().sum().item<float>(), 0);
    EXPECT_TRUE(batch.labels.slice(0, begin, begin + numbers).eq(-1).all().item<bool>());
    const at::Tensor order = batch.labels.slice(0, begin + numbers, begin + 2 * numbers);
    const at::Tensor sorted = values.select(1, 0).index_select(0, order);
    EXPECT_TRUE(sorted.slice(0, 1).ge(sorted.slice(0, 0, numbers - 1)).all().item<bool>());
    EXPECT_TRUE(std::get<0>(order.sort()).equal(at::arange(numbers, at::kLong)));
  }
  EXPECT_EQ(counts.size(), 14u);
  EXPECT_EQ(*counts.begin(), 2);
  EXPECT_EQ(*counts.rbegin(), 15);
}

TEST(SortTask, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal_of([] { task_of("sort", "numbers_maximum = 4\nnumbers_minimum = 5"); }),
            "task sort: expected numbers_minimum <= numbers_maximum, got 5 and 4");
}

}  // namespace
}  // namespace adatape
