// Loss and metric of tasks whose answer is one class an example.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace adatape {

// Cross-entropy of each example: logits [B, classes], labels int64 [B] -> [B], differentiable. label_smoothing e: the target is
// (1 - e) of the label plus e of the uniform distribution. Throws Error, in the name of component, on shapes that do not fit.
at::Tensor classification_loss(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes,
                               double label_smoothing = 0);

// bool [B]: the largest logit is the label's. A row with a NaN or infinite logit is wrong, whatever its label.
at::Tensor classification_correct(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes);

}  // namespace adatape
