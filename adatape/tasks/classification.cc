#include "adatape/tasks/classification.h"

#include <ATen/core/Reduction.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/isfinite.h>

#include "adatape/core/check.h"

namespace adatape {
namespace {

void check_shapes(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes) {
  ADATAPE_CHECK(labels.defined(), component, "expected a batch with labels, got one without");
  ADATAPE_CHECK(labels.dim() == 1 && logits.dim() == 2 && logits.size(0) == labels.size(0) && logits.size(1) == classes, component,
                "expected logits [", labels.numel(), ", ", classes, "], got ", logits.sizes());
}

}  // namespace

at::Tensor classification_loss(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes,
                               double label_smoothing) {
  check_shapes(component, logits, labels, classes);
  return at::cross_entropy_loss(logits, labels, /*weight=*/{}, at::Reduction::None, /*ignore_index=*/-100, label_smoothing);
}

at::Tensor classification_correct(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes) {
  check_shapes(component, logits, labels, classes);
  return logits.argmax(1).eq(labels).logical_and(at::isfinite(logits).all(1));
}

}  // namespace adatape
