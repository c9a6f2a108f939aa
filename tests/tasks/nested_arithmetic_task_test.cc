#include "adatape/tasks/nested_arithmetic/nested_arithmetic_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "task_cases.h"

namespace adatape {
namespace {

using testing::numbers;
using testing::refusal_of;
using testing::task_of;

TEST(NestedArithmetic, OperatorsByHand) {
  const std::vector<int64_t> three = {7, 2, 9}, four = {7, 2, 9, 4};
  EXPECT_EQ(value_of(10, three), 2);
  EXPECT_EQ(value_of(11, three), 9);
  EXPECT_EQ(value_of(12, three), 7);
  EXPECT_EQ(value_of(12, four), 5);   // (4 + 7) / 2, rounded down
  EXPECT_EQ(value_of(13, three), 8);  // 18 modulo 10
}

// An evaluator of its own: a stack of open operators.
std::pair<int64_t, int64_t> value_and_depth(const std::vector<double>& symbols) {
  std::vector<std::pair<int64_t, std::vector<int64_t>>> open = {{-1, {}}};
  int64_t depth = 0;
  for (const double symbol : symbols) {
    const auto id = static_cast<int64_t>(symbol);
    if (id < 10) {
      open.back().second.push_back(id);
    } else if (id < 14) {
      open.push_back({id, {}});
      depth = std::max(depth, static_cast<int64_t>(open.size()) - 1);
    } else {
      const auto [operation, arguments] = open.back();
      EXPECT_GE(arguments.size(), 2u);
      EXPECT_LE(arguments.size(), 4u);
      open.pop_back();
      open.back().second.push_back(value_of(operation, arguments));
    }
  }
  EXPECT_EQ(open.size(), 1u);
  EXPECT_EQ(open.front().second.size(), 1u);
  return {open.front().second.front(), depth};
}

TEST(NestedArithmetic, AnswersAreTheValues) {
  const auto task = task_of("nested_arithmetic");
  for (const Split split : {Split::kValidation, Split::kTest}) {
    const Batch batch = task->held_out_batch(split, 0, 400);
    const at::Tensor depths = task->example_covariate(batch);
    std::set<int64_t> seen, answers;
    for (int64_t b = 0; b < batch.size(); ++b) {
      const auto [value, depth] = value_and_depth(numbers(batch.symbols.slice(0, batch.offsets[b], batch.offsets[b + 1])));
      ASSERT_EQ(batch.labels[b].item<int64_t>(), value);
      EXPECT_EQ(depths[b].item<float>(), static_cast<float>(depth));
      seen.insert(depth);
      answers.insert(value);
    }
    EXPECT_EQ(seen.size(), split == Split::kTest ? 8u : 4u);
    EXPECT_EQ(answers.size(), 10u);
  }
}

TEST(NestedArithmetic, NoExpressionIsTooLong) {
  const auto task = task_of("nested_arithmetic", "test_depth_maximum = 4\nlongest = 26");
  const Batch batch = task->held_out_batch(Split::kTest, 0, 400);
  int64_t longest = 0;
  for (int64_t b = 0; b < batch.size(); ++b) longest = std::max(longest, batch.offsets[b + 1] - batch.offsets[b]);
  EXPECT_EQ(longest, 26);
  EXPECT_THAT(refusal_of([] { task_of("nested_arithmetic", "longest = 60"); }),
              ::testing::StartsWith("task nested_arithmetic: expected longest to hold expressions of the deepest kind, of "));
  EXPECT_EQ(refusal_of([] { task_of("nested_arithmetic", "depth_minimum = 5"); }),
            "task nested_arithmetic: expected depth_minimum <= depth_maximum, got 5 and 4");
}

}  // namespace
}  // namespace adatape
