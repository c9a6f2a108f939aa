// Loss and metric of tasks whose answer is one class: one an example, or one or several for each element of a sequence.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// Cross-entropy of each example: logits [B, classes], labels int64 [B] -> [B], differentiable. label_smoothing e: the target is
// (1 - e) of the label plus e of the uniform distribution. Throws Error, in the name of component, on shapes that do not fit.
at::Tensor classification_loss(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes,
                               double label_smoothing = 0);

// bool [B]: the largest logit is the label's. A row with a NaN or infinite logit is wrong, whatever its label.
at::Tensor classification_correct(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes);

// Where elements of packed sequences have answers (InputSpec::answers_each): logits [total, answers x classes], an answer's classes
// together; labels int64 [total], or [total, answers] where an element has several; -1: nothing is asked here. offsets [B + 1] say whose
// the elements are.

// Cross-entropy, the mean over an example's answers (0 without any): [B], differentiable. Throws Error on shapes that do not fit.
at::Tensor sequence_loss(const std::string& component, const at::Tensor& logits, const at::Tensor& labels,
                         const std::vector<int64_t>& offsets, int64_t classes);

// bool [B]: every answer of the example is right, as classification_correct has it.
at::Tensor sequence_correct(const std::string& component, const at::Tensor& logits, const at::Tensor& labels,
                            const std::vector<int64_t>& offsets, int64_t classes);

}  // namespace adatape
