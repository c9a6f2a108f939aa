// What an evaluation of a classifier says beyond accuracy.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

namespace adatape {

// Adds up batches.
class ClassificationMetrics {
 public:
  static constexpr int64_t kMostClasses = 100;  // of a confusion matrix that is kept

  // logits [B, C], probabilities of the classes [B, C] (tasks' class_probabilities), labels int64 [B].
  void add(const at::Tensor& logits, const at::Tensor& probabilities, const at::Tensor& labels);

  int64_t classes() const { return classes_; }
  // Share of examples whose class is among the five largest logits (ties count against it, and logits that are not
  // finite); 1 with up to five classes.
  double top5_accuracy() const;
  // Expected calibration error: mean over 15 equal bins of the answer's probability, weighted by their examples, of
  // |accuracy - mean probability|. Source: arXiv 1706.04599.
  double calibration_error() const;
  // [C][C] counts, a row a true class, a column an answer (none where a logit is not finite); empty beyond kMostClasses.
  const std::vector<std::vector<int64_t>>& confusion() const { return confusion_; }

 private:
  struct Bin {
    int64_t examples = 0, correct = 0;
    double probability = 0;
  };
  int64_t examples_ = 0, classes_ = 0, in_top5_ = 0;
  std::array<Bin, 15> bins_{};
  std::vector<std::vector<int64_t>> confusion_;
};

}  // namespace adatape
