#include "adatape/tasks/drawn_task.h"

#include <ATen/ops/empty.h>

#include "adatape/core/check.h"
#include "adatape/tasks/classification.h"
#include "adatape/tasks/to_tensor.h"

namespace adatape {
namespace {

constexpr int64_t kValidationSize = 100'000, kTestSize = 1'000'000;

// Sites of the three splits: equal (seed, step, example) at different sites are different streams.
constexpr uint32_t kTrainingSite = site(Site::kData, 0), kValidationSite = site(Site::kData, 1), kTestSite = site(Site::kData, 2);

}  // namespace

Batch DrawnTask::to_batch(const DrawnExamples& drawn, uint64_t first_example) const {
  Batch batch;
  batch.offsets = drawn.offsets;
  const int64_t total = drawn.offsets.back(), asked = static_cast<int64_t>(drawn.labels.size());
  if (spec_.kind == InputSpec::Kind::kVectors) {
    batch.vectors = to_tensor(drawn.vectors, {total, spec_.dimension});
  } else {
    batch.symbols = to_tensor(drawn.symbols);
  }
  const int64_t answers = spec_.answers_each ? spec_.classes / classes_ : 1;
  batch.labels = to_tensor(drawn.labels, answers > 1 ? std::vector<int64_t>{total, answers} : std::vector<int64_t>{asked});
  std::vector<int64_t> examples;
  for (int64_t i = 0; i < batch.size(); ++i) examples.push_back(static_cast<int64_t>(first_example + static_cast<uint64_t>(i)));
  batch.examples = to_tensor(examples);
  return batch;
}

Batch DrawnTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, component_, "expected a batch size >= 1, got ", batch_size);
  DrawnExamples drawn;
  for (int64_t i = 0; i < batch_size; ++i) {
    CounterRng random(seed, step, kTrainingSite, static_cast<uint64_t>(i));
    draw(random, Split::kTrain, drawn);
  }
  return to_batch(drawn, step * static_cast<uint64_t>(batch_size));
}

Batch DrawnTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const int64_t size = held_out_size(split);
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= size && count <= size - first, component_, "expected held-out examples within 0 .. ",
                size - 1, ", got ", count, " from ", first);
  DrawnExamples drawn;
  for (int64_t i = first; i < first + count; ++i) {
    CounterRng random(held_out_seed_, 0, split == Split::kTest ? kTestSite : kValidationSite, static_cast<uint64_t>(i));
    draw(random, split, drawn);
  }
  return to_batch(drawn, static_cast<uint64_t>(first));
}

int64_t DrawnTask::held_out_size(Split split) const {
  ADATAPE_CHECK(split != Split::kTrain, component_, "expected the validation or test split, got the training split");
  return split == Split::kTest ? kTestSize : kValidationSize;
}

at::Tensor DrawnTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return spec_.answers_each ? sequence_loss(component_, logits, batch.labels, batch.offsets, classes_)
                            : classification_loss(component_, logits, batch.labels, classes_);
}

at::Tensor DrawnTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return spec_.answers_each ? sequence_correct(component_, logits, batch.labels, batch.offsets, classes_)
                            : classification_correct(component_, logits, batch.labels, classes_);
}

at::Tensor DrawnTask::lengths_of(const Batch& batch) {
  at::Tensor lengths = at::empty({batch.size()}, at::kFloat);
  for (int64_t b = 0; b < batch.size(); ++b) {
    lengths.data_ptr<float>()[b] = static_cast<float>(batch.offsets[static_cast<size_t>(b) + 1] - batch.offsets[static_cast<size_t>(b)]);
  }
  return lengths;
}

}  // namespace adatape
