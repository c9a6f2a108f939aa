#include "adatape/tasks/classification.h"

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

std::string refusal(const at::Tensor& logits, const at::Tensor& labels) {
  try {
    sequence_loss("task", logits, labels, {0, 2}, 3);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

at::Tensor numbers(std::vector<double> values) { return at::tensor(values).to(at::kDouble); }

// Three examples: two elements, none, three (of which one is not asked).
const std::vector<int64_t> kOffsets = {0, 2, 2, 5};

TEST(SequenceClassification, ByHand) {
  const double half = std::log(0.5), quarter = std::log(0.25);
  const at::Tensor logits =
      numbers({half, quarter, quarter, quarter, half, quarter, quarter, quarter, half, half, quarter, quarter, half, quarter, quarter})
          .view({5, 3});
  const at::Tensor labels = at::tensor(std::vector<int64_t>{0, 0, 2, -1, 0}, at::kLong);
  const at::Tensor loss = sequence_loss("task", logits, labels, kOffsets, 3);
  EXPECT_TRUE(at::allclose(loss, numbers({-(half + quarter) / 2, 0, -half})));
  EXPECT_TRUE(sequence_correct("task", logits, labels, kOffsets, 3).equal(at::tensor({0, 1, 1}).to(at::kBool)));
}

TEST(SequenceClassification, SeveralAnswersAnElement) {
  at::Tensor logits = at::zeros({5, 6}, at::kDouble);
  logits.select(1, 1).fill_(5);  // the first answer is 1, the second 2
  logits.select(1, 5).fill_(5);
  at::Tensor labels = at::zeros({5, 2}, at::kLong);
  labels.select(1, 0).fill_(1);
  labels.select(1, 1).fill_(2);
  EXPECT_TRUE(sequence_correct("task", logits, labels, kOffsets, 3).all().item<bool>());
  const double each = -at::log_softmax(numbers({0, 5, 0}), 0)[1].item<double>();
  EXPECT_TRUE(at::allclose(sequence_loss("task", logits, labels, kOffsets, 3), numbers({each, 0, each})));
  labels[4][1] = 0;
  EXPECT_TRUE(sequence_correct("task", logits, labels, kOffsets, 3).equal(at::tensor({1, 1, 0}).to(at::kBool)));
  EXPECT_NEAR(sequence_loss("task", logits, labels, kOffsets, 3)[2].item<double>(), each + 5.0 / 6, 1e-9);
}

TEST(SequenceClassification, NaNIsWrongAndNothingIsNothing) {
  at::Tensor logits = at::zeros({2, 3});
  logits[1][2] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor labels = at::zeros({2}, at::kLong);
  EXPECT_FALSE(sequence_correct("task", logits, labels, {0, 2}, 3).item<bool>());
  EXPECT_TRUE(sequence_loss("task", at::zeros({0, 3}), at::zeros({0}, at::kLong), {0, 0}, 3).equal(at::zeros({1})));
}

TEST(SequenceClassification, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal(at::zeros({2, 3}), {}), "task: expected a batch with labels, got one without");
  EXPECT_EQ(refusal(at::zeros({2, 3}), at::zeros({3}, at::kLong)), "task: expected labels [2] or [2, answers], got [3]");
  EXPECT_EQ(refusal(at::zeros({2, 3}), at::zeros({2, 2}, at::kLong)), "task: expected logits [2, 6], got [2, 3]");
}

}  // namespace
}  // namespace adatape
