#include "adatape/tasks/image_classification/image_classification_task.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/zeros_like.h>

#include "adatape/core/check.h"
#include "adatape/tasks/classification.h"
#include "adatape/tasks/image_classification/mixup.h"

namespace adatape {
namespace {

// A batch to be filled image by image.
Batch empty_batch(int64_t count, const InputSpec& spec) {
  Batch batch;
  batch.images = at::empty({count, spec.channels, spec.height, spec.width}, at::kFloat);
  batch.labels = at::empty({count}, at::kLong);
  batch.examples = at::empty({count}, at::kLong);
  return batch;
}

void put(Batch& batch, int64_t place, const ImageSource& source, int64_t index, int64_t example, const std::optional<ShowingKey>& key) {
  const int64_t numbers = batch.images.size(1) * batch.images.size(2) * batch.images.size(3);
  batch.labels.data_ptr<int64_t>()[place] = source.put(index, key, batch.images.data_ptr<float>() + place * numbers);
  batch.examples.data_ptr<int64_t>()[place] = example;
}

// [B, classes]: what each logit should say; mixed examples have two classes.
at::Tensor targets_of(const at::Tensor& logits, const Batch& batch, int64_t classes, double smoothing) {
  ADATAPE_CHECK(batch.labels.defined() && logits.dim() == 2 && logits.size(0) == batch.labels.size(0) && logits.size(1) == classes,
                kImageClassification, "expected labels and logits [", batch.size(), ", ", classes, "], got ", logits.sizes());
  at::Tensor targets = at::zeros_like(logits);
  const at::Tensor labels = batch.labels.unsqueeze(1);
  if (batch.other_labels.defined()) {
    const at::Tensor share = batch.label_weights.to(logits.scalar_type()).unsqueeze(1);
    targets.scatter_add_(1, labels, share);
    targets.scatter_add_(1, batch.other_labels.unsqueeze(1), 1 - share);
  } else {
    targets.scatter_(1, labels, 1);
  }
  return smoothing > 0 ? targets * (1 - smoothing) + smoothing / static_cast<double>(classes) : targets;
}

// Resolved and checked before the members that need it are made.
ImageClassificationConfig ready(ImageClassificationConfig config) {
  config.resolve();
  config.validate();
  return config;
}

}  // namespace

ImageClassificationTask::ImageClassificationTask(const ImageClassificationConfig& config)
    : config_(ready(config)), splits_(open_splits(config_)), order_(splits_.training->size()) {}

Batch ImageClassificationTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, kImageClassification, "expected a batch size >= 1, got ", batch_size);
  const auto size = static_cast<uint64_t>(epoch_size());
  Batch batch = empty_batch(batch_size, input_spec());
  EpochOrder::Permutation order;
  uint64_t order_epoch = 0;
  for (int64_t i = 0; i < batch_size; ++i) {
    const uint64_t place = step * static_cast<uint64_t>(batch_size) + static_cast<uint64_t>(i);
    const uint64_t epoch = place / size;
    if (order == nullptr || epoch != order_epoch) {
      order = order_.permutation(seed, epoch);
      order_epoch = epoch;
    }
    const uint64_t index = (*order)[place % size], example = epoch * size + index;
    put(batch, i, *splits_.training, static_cast<int64_t>(index), static_cast<int64_t>(example), ShowingKey{seed, example});
  }
  if (config_.mixup > 0) mix_pairs(batch, config_.mixup, seed, step * static_cast<uint64_t>(batch_size / 2));
  return batch;
}

Batch ImageClassificationTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const ImageSource& source = held_out(split);
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= source.size() && count <= source.size() - first, kImageClassification,
                "expected held-out examples within 0 .. ", source.size() - 1, ", got ", count, " from ", first);
  Batch batch = empty_batch(count, input_spec());
  for (int64_t i = 0; i < count; ++i) put(batch, i, source, first + i, first + i, std::nullopt);
  return batch;
}

const ImageSource& ImageClassificationTask::held_out(Split split) const {
  if (split == calibration_split()) return split == Split::kTrain ? *splits_.training : *splits_.validation;
  ADATAPE_CHECK(split != Split::kTrain, kImageClassification, "expected the validation or test split, got the training split");
  return split == Split::kTest ? *splits_.test : *splits_.validation;
}

int64_t ImageClassificationTask::held_out_size(Split split) const { return held_out(split).size(); }

at::Tensor ImageClassificationTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  if (config_.loss == "softmax" && !batch.other_labels.defined()) {
    return classification_loss(kImageClassification, logits, batch.labels, *config_.classes, config_.label_smoothing);
  }
  const at::Tensor target = targets_of(logits, batch, *config_.classes, config_.label_smoothing);
  if (config_.loss == "softmax") return -(target * logits.log_softmax(1)).sum(1);
  return (at::softplus(logits) - target * logits).sum(1);
}

at::Tensor ImageClassificationTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return classification_correct(kImageClassification, logits, batch.labels, *config_.classes);
}

at::Tensor ImageClassificationTask::example_covariate(const Batch& batch) const {
  ADATAPE_CHECK(batch.labels.defined(), kImageClassification, "expected a batch with labels, got one without");
  return batch.labels.cpu().to(at::kFloat);
}

std::string ImageClassificationTask::describe_data() const {
  const std::string held_out =
      splits_.test == splits_.validation
          ? concat(" training and ", splits_.validation->size(), " validation pictures")
          : concat(" training, ", splits_.validation->size(), " validation and ", splits_.test->size(), " test pictures");
  return concat(epoch_size(), held_out, " in ", *config_.classes, " classes",
                splits_.shards > 0 ? concat(" (", splits_.shards, splits_.shards == 1 ? " shard)" : " shards)") : "");
}

std::vector<std::string> ImageClassificationTask::notes() const {
  std::vector<std::string> notes = splits_.notes;
  const auto add = [&](const char* name, const ImageSource& source) {
    const int64_t count = source.unreadable();
    if (count == 0) return;
    notes.push_back(concat(count, " of ", source.size(), ' ', name,
                           " pictures could not be read and others took the place; the first: ", source.first_error()));
  };
  add("training", *splits_.training);
  add("validation", *splits_.validation);
  if (splits_.test != splits_.validation) add("test", *splits_.test);
  return notes;
}

at::Tensor class_probabilities(const Task& task, const at::Tensor& logits) {
  const auto* images = dynamic_cast<const ImageClassificationTask*>(&task);
  return images != nullptr ? images->config().class_probabilities(logits) : logits.to(at::kDouble).softmax(1);
}

std::unique_ptr<Task> make_image_classification_task(const TaskConfig& config) {
  const auto* images = dynamic_cast<const ImageClassificationConfig*>(&config);
  ADATAPE_CHECK(images != nullptr, kImageClassification, "expected the configuration of task image_classification, got that of \"",
                config.name, '"');
  return std::make_unique<ImageClassificationTask>(*images);
}

}  // namespace adatape
