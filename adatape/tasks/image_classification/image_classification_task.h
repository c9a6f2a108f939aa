// Image classification from files: which of `classes` does an image show?
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adatape/tasks/image_classification/epoch_order.h"
#include "adatape/tasks/image_classification/labelled_images.h"
#include "adatape/tasks/task.h"

namespace adatape {

struct ImageClassificationConfig : TaskConfig {
  std::string format = "idx";
  std::string path = "/usr/share/datasets/fashion-mnist";
  int64_t channels = 1, height = 28, width = 28;
  int64_t classes = 10;
  std::string names;  // comma-separated; empty: Fashion-MNIST's for a folder of that name, else the numbers
  int64_t validation_examples = 5000;
  std::string augment = "none";
  int64_t shift = 2;
  double label_smoothing = 0;

  ImageClassificationConfig() { name = "image_classification"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
  std::vector<std::string> class_names() const;
};

// Loads all images at construction (uint8, 47 MB for Fashion-MNIST). The last validation_examples of the training files are the validation
// split and never trained on; the t10k files are the test split.
//
// Training is one endless stream of epochs, each a permutation of the training images drawn from (seed, epoch); step s of batch size B
// takes stream places s B .. s B + B - 1, so a batch may span epochs. examples = epoch x epoch_size + index of the image. Augmentation of
// an example is drawn from (seed, that number) alone.
class ImageClassificationTask : public Task {
 public:
  explicit ImageClassificationTask(const ImageClassificationConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  // examples = place in the split, 0 .. held_out_size - 1.
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override;
  int64_t epoch_size() const override { return training_examples_; }
  // With the configured label_smoothing, on held-out examples too.
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  // float32 [B] on the CPU, the class.
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override { return "class"; }
  std::vector<std::string> class_names() const override { return config_.class_names(); }

 private:
  ImageClassificationConfig config_;
  LabelledImages training_, test_;  // training_ holds the validation images behind its own
  int64_t training_examples_ = 0;
  mutable EpochOrder order_;
};

std::unique_ptr<TaskConfig> make_image_classification_config();
std::unique_ptr<Task> make_image_classification_task(const TaskConfig& config);

}  // namespace adatape
