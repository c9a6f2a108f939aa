#include "adatape/tasks/classification.h"

#include <ATen/core/Reduction.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "adatape/core/check.h"

namespace adatape {
namespace {

void check_shapes(const std::string& component, const at::Tensor& logits, const at::Tensor& labels, int64_t classes) {
  ADATAPE_CHECK(labels.defined(), component, "expected a batch with labels, got one without");
  ADATAPE_CHECK(labels.dim() == 1 && logits.dim() == 2 && logits.size(0) == labels.size(0) && logits.size(1) == classes, component,
                "expected logits [", labels.numel(), ", ", classes, "], got ", logits.sizes());
}

// logits [total x answers, classes] and labels [total x answers].
std::pair<at::Tensor, at::Tensor> rows_of_answers(const std::string& component, const at::Tensor& logits, const at::Tensor& labels,
                                                  const std::vector<int64_t>& offsets, int64_t classes) {
  ADATAPE_CHECK(labels.defined(), component, "expected a batch with labels, got one without");
  const int64_t total = offsets.back();
  ADATAPE_CHECK((labels.dim() == 1 || labels.dim() == 2) && labels.size(0) == total, component, "expected labels [", total, "] or [", total,
                ", answers], got ", labels.sizes());
  const int64_t answers = labels.dim() == 2 ? labels.size(1) : 1;
  ADATAPE_CHECK(logits.dim() == 2 && logits.size(0) == total && logits.size(1) == answers * classes, component, "expected logits [", total,
                ", ", answers * classes, "], got ", logits.sizes());
  return {logits.reshape({total * answers, classes}), labels.reshape({-1})};
}

// Sums over the answers of each example: values [total x answers] -> [B].
at::Tensor sum_per_example(const at::Tensor& values, const std::vector<int64_t>& offsets) {
  const int64_t total = offsets.back(), examples = static_cast<int64_t>(offsets.size()) - 1;
  at::Tensor whose = at::empty({total}, at::kLong);
  for (int64_t b = 0; b < examples; ++b) {
    std::fill(whose.data_ptr<int64_t>() + offsets[static_cast<size_t>(b)], whose.data_ptr<int64_t>() + offsets[static_cast<size_t>(b) + 1],
              b);
  }
  const at::Tensor of_elements = total == 0 ? values : values.view({total, -1}).sum(1);
  return at::zeros({examples}, values.options()).index_add(0, whose.to(values.device()), of_elements);
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

at::Tensor sequence_loss(const std::string& component, const at::Tensor& logits, const at::Tensor& labels,
                         const std::vector<int64_t>& offsets, int64_t classes) {
  const auto [rows, targets] = rows_of_answers(component, logits, labels, offsets, classes);
  const at::Tensor losses = at::cross_entropy_loss(rows, targets, /*weight=*/{}, at::Reduction::None, /*ignore_index=*/-1);
  const at::Tensor asked = sum_per_example(targets.ne(-1).to(losses.scalar_type()), offsets);
  return sum_per_example(losses, offsets) / asked.clamp_min(1);
}

at::Tensor sequence_correct(const std::string& component, const at::Tensor& logits, const at::Tensor& labels,
                            const std::vector<int64_t>& offsets, int64_t classes) {
  const auto [rows, targets] = rows_of_answers(component, logits, labels, offsets, classes);
  const at::Tensor wrong = rows.argmax(1).eq(targets).logical_and(at::isfinite(rows).all(1)).logical_not().logical_and(targets.ne(-1));
  return sum_per_example(wrong.to(at::kLong), offsets).eq(0);
}

}  // namespace adatape
