#include "adatape/train/classification_metrics.h"

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"

namespace adatape {

void ClassificationMetrics::add(const at::Tensor& logits, const at::Tensor& probabilities, const at::Tensor& labels) {
  ADATAPE_CHECK(logits.dim() == 2 && probabilities.sizes() == logits.sizes() && labels.dim() == 1 && logits.size(0) == labels.size(0),
                "classification metrics", "expected logits and probabilities [B, C] and labels [B], got ", logits.sizes(), ", ",
                probabilities.sizes(), " and ", labels.sizes());
  ADATAPE_CHECK(classes_ == 0 || classes_ == logits.size(1), "classification metrics", "expected ", classes_, " classes as before, got ",
                logits.size(1));
  classes_ = logits.size(1);
  if (confusion_.empty() && classes_ <= kMostClasses) {
    confusion_.assign(static_cast<size_t>(classes_), std::vector<int64_t>(static_cast<size_t>(classes_)));
  }
  const at::Tensor values = logits.detach().to(at::kCPU, at::kFloat).contiguous(), answers = labels.to(at::kCPU, at::kLong).contiguous();
  const at::Tensor shares = probabilities.detach().to(at::kCPU, at::kDouble).contiguous();
  for (int64_t b = 0; b < values.size(0); ++b) {
    const float* row = values.const_data_ptr<float>() + b * classes_;
    const int64_t label = answers.const_data_ptr<int64_t>()[b];
    ADATAPE_CHECK(label >= 0 && label < classes_, "classification metrics", "expected labels below ", classes_, ", got ", label);
    const int64_t answer = std::max_element(row, row + classes_) - row;
    int64_t ahead = 0;  // classes with at least the label's logit
    for (int64_t c = 0; c < classes_; ++c) ahead += c != label && row[c] >= row[label];
    const double probability = shares.const_data_ptr<double>()[b * classes_ + answer];
    const auto bin = std::isfinite(probability) ? static_cast<size_t>(probability * static_cast<double>(bins_.size())) : 0;
    Bin& of = bins_[std::min(bin, bins_.size() - 1)];
    ++of.examples;
    const bool finite = std::all_of(row, row + classes_, [](float logit) { return std::isfinite(logit); });  // else wrong, as in accuracy
    of.correct += finite && answer == label;
    of.probability += probability;
    ++examples_;
    in_top5_ += finite && ahead < 5;
    if (!confusion_.empty() && finite) ++confusion_[static_cast<size_t>(label)][static_cast<size_t>(answer)];
  }
}

double ClassificationMetrics::top5_accuracy() const {
  return examples_ == 0 ? 0 : static_cast<double>(in_top5_) / static_cast<double>(examples_);
}

double ClassificationMetrics::calibration_error() const {
  double error = 0;
  for (const Bin& bin : bins_) error += std::abs(static_cast<double>(bin.correct) - bin.probability);
  return examples_ == 0 ? 0 : error / static_cast<double>(examples_);
}

}  // namespace adatape
