#include "adatape/train/classification_metrics.h"

#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

// Probabilities as softmax gives them.
void add(ClassificationMetrics& metrics, const torch::Tensor& logits, const at::Tensor& labels) {
  metrics.add(logits, logits.softmax(1), labels);
}

at::Tensor labels_of(const std::vector<int64_t>& labels) { return torch::tensor(labels, torch::kInt64); }

TEST(ClassificationMetrics, CountsTheFiveBest) {
  ClassificationMetrics metrics;
  // Ranks of the labels: first, fifth, sixth, and a tie of all, which counts against.
  const torch::Tensor falling = torch::arange(7, 0, -1, torch::kFloat32).repeat({3, 1});
  add(metrics, torch::cat({falling, torch::zeros({1, 7})}), labels_of({0, 4, 5, 6}));
  EXPECT_DOUBLE_EQ(metrics.top5_accuracy(), 0.5);
  EXPECT_EQ(metrics.confusion()[4], (std::vector<int64_t>{1, 0, 0, 0, 0, 0, 0}));
  ClassificationMetrics few;
  add(few, torch::zeros({2, 3}), labels_of({0, 2}));
  EXPECT_EQ(few.top5_accuracy(), 1);
}

// Answers with probability p: three of four right at 0.75 is calibrated, one of two right at 0.9 is off by 0.4.
TEST(ClassificationMetrics, CalibrationErrorIsTheWeightedGap) {
  const auto logits = [](double p, int64_t count) {
    return torch::tensor({std::log(p), std::log(1 - p)}, torch::kFloat32).repeat({count, 1});
  };
  ClassificationMetrics calibrated;
  add(calibrated, logits(0.75, 4), labels_of({0, 0, 0, 1}));
  EXPECT_NEAR(calibrated.calibration_error(), 0, 1e-6);
  ClassificationMetrics both;
  add(both, logits(0.75, 4), labels_of({0, 0, 0, 1}));
  add(both, logits(0.9, 2), labels_of({0, 1}));
  EXPECT_NEAR(both.calibration_error(), 2.0 / 6 * 0.4, 1e-6);
  // Gaps of the two bins do not cancel.
  ClassificationMetrics opposite;
  add(opposite, logits(0.9, 2), labels_of({0, 1}));
  add(opposite, logits(0.6, 2), labels_of({0, 0}));
  EXPECT_NEAR(opposite.calibration_error(), 0.4, 1e-6);
}

// The answer is the largest logit's class, its probability whatever the task says: of two classes with 0.7 each one is right.
TEST(ClassificationMetrics, ProbabilitiesNeedNotAddUpToOne) {
  ClassificationMetrics metrics;
  metrics.add(torch::tensor({{2.0f, 1.0f}, {2.0f, 1.0f}}), torch::tensor({{0.7, 0.7}, {0.7, 0.7}}, torch::kFloat64), labels_of({0, 1}));
  EXPECT_NEAR(metrics.calibration_error(), 0.2, 1e-12);
  EXPECT_THAT(error_of([&] {
                metrics.add(torch::zeros({1, 2}), torch::zeros({1, 1}), labels_of({0}));
              }),
              HasSubstr("[1, 2], [1, 1] and [1]"));
}

// A model that has diverged is right about nothing, as accuracy has it.
TEST(ClassificationMetrics, AnswersThatAreNoNumbersAreWrong) {
  ClassificationMetrics metrics;
  const float nan = std::nanf("");
  add(metrics, torch::tensor({{nan, nan, nan}, {1.0f, 5.0f, nan}, {1.0f, 5.0f, 0.0f}}), labels_of({0, 1, 1}));
  EXPECT_DOUBLE_EQ(metrics.top5_accuracy(), 1.0 / 3);
  EXPECT_EQ(metrics.confusion(), (std::vector<std::vector<int64_t>>{{0, 0, 0}, {0, 1, 0}, {0, 0, 0}}));
}

TEST(ClassificationMetrics, LargeTasksKeepNoMatrix) {
  ClassificationMetrics metrics;
  add(metrics, torch::zeros({1, 101}), labels_of({100}));
  EXPECT_EQ(metrics.classes(), 101);
  EXPECT_TRUE(metrics.confusion().empty());
  EXPECT_THAT(error_of([&] {
                add(metrics, torch::zeros({1, 100}), labels_of({0}));
              }),
              HasSubstr("expected 101 classes as before, got 100"));
  EXPECT_THAT(error_of([&] {
                add(metrics, torch::zeros({2, 101}), labels_of({0}));
              }),
              HasSubstr("expected logits and probabilities [B, C] and labels [B]"));
  EXPECT_THAT(error_of([&] { add(metrics, torch::zeros({1, 101}), labels_of({101})); }), HasSubstr("expected labels below 101, got 101"));
}

}  // namespace
}  // namespace adatape
