#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "task_cases.h"

namespace adatape {
namespace {

using testing::refusal_of;
using testing::task_of;

// The number that a vector of one-hot digits holds.
int64_t number_in(const at::Tensor& vector, int64_t digits, bool highest_first) {
  int64_t number = 0, place = 1;
  for (int64_t i = 0; i < digits; ++i) {
    const at::Tensor one_hot = vector.slice(0, 10 * i, 10 * i + 10);
    if (one_hot.sum().item<float>() == 0) break;
    const int64_t digit = one_hot.argmax().item<int64_t>();
    number = highest_first ? 10 * number + digit : number + place * digit;
    place *= 10;
  }
  return number;
}

int64_t number_in(const std::vector<int64_t>& answers, bool highest_first) {
  int64_t number = 0, place = 1;
  for (const int64_t digit : answers) {
    if (digit == 10) break;
    number = highest_first ? 10 * number + digit : number + place * digit;
    place *= 10;
  }
  return number;
}

TEST(AdditionTask, AnswersAreSumsSoFar) {
  for (const bool highest_first : {true, false}) {
    const auto task = task_of("addition", highest_first ? "" : "order = 'lowest_first'");
    const Batch batch = task->training_batch(1, 2, 200);
    ASSERT_EQ(batch.labels.sizes(), (at::IntArrayRef{batch.offsets.back(), 6}));
    const at::Tensor digits = task->element_covariate(batch);
    std::set<int64_t> lengths, longest;
    for (int64_t b = 0; b < batch.size(); ++b) {
      int64_t sum = 0;
      lengths.insert(batch.offsets[b + 1] - batch.offsets[b]);
      for (int64_t e = batch.offsets[b]; e < batch.offsets[b + 1]; ++e) {
        const int64_t number = number_in(batch.vectors[e], 5, highest_first);
        sum += number;
        EXPECT_EQ(digits[e].item<float>(), static_cast<float>(std::to_string(number).size()));
        longest.insert(static_cast<int64_t>(std::to_string(number).size()));
        const at::Tensor row = batch.labels[e].contiguous();
        const std::vector<int64_t> answers(row.data_ptr<int64_t>(), row.data_ptr<int64_t>() + 6);
        if (e == batch.offsets[b]) {
          EXPECT_EQ(answers, std::vector<int64_t>(6, -1));
        } else {
          ASSERT_EQ(number_in(answers, highest_first), sum);
        }
      }
    }
    EXPECT_EQ(lengths, (std::set<int64_t>{2, 3, 4, 5}));
    EXPECT_EQ(longest, (std::set<int64_t>{1, 2, 3, 4, 5}));
  }
}

TEST(AdditionTask, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal_of([] { task_of("addition", "numbers_minimum = 6"); }),
            "task addition: expected numbers_minimum <= numbers_maximum, got 6 and 5");
}

}  // namespace
}  // namespace adatape
