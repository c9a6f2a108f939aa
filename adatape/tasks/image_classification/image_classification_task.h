// Image classification from files: which of `classes` does an image show?
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adatape/tasks/image_classification/epoch_order.h"
#include "adatape/tasks/image_classification/image_classification_config.h"
#include "adatape/tasks/image_classification/image_source.h"
#include "adatape/tasks/task.h"

namespace adatape {

// IDX files are loaded at construction (uint8, 47 MB for Fashion-MNIST): the last validation_examples of the training files are the
// validation split and never trained on, the t10k files are the test split. Pictures of folders and tar shards are listed at construction
// and read when a batch is made; which splits there are: data/image_folder.h, notes().
//
// Training is one endless stream of epochs, each a permutation of the training images drawn from (seed, epoch); step s of batch size B
// takes stream places s B .. s B + B - 1, so a batch may span epochs. examples = epoch x epoch_size + index of the image. Augmentation of
// an example is drawn from (seed, that number) alone, mixup of stream places 2k and 2k + 1 from (seed, k); it needs an even batch size.
class ImageClassificationTask : public Task {
 public:
  explicit ImageClassificationTask(const ImageClassificationConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  // examples = place in the split, 0 .. held_out_size - 1.
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  Split calibration_split() const override { return splits_.test == splits_.validation ? Split::kTrain : Split::kValidation; }
  int64_t held_out_size(Split split) const override;
  int64_t epoch_size() const override { return splits_.training->size(); }
  // The configured loss with its label_smoothing, on held-out examples too; of two classes where examples are mixed.
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  // float32 [B] on the CPU, the class.
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override { return "class"; }
  std::vector<std::string> class_names() const override { return config_.class_names(); }
  const ImageClassificationConfig& config() const { return config_; }
  // "120 training, 36 validation and 36 test pictures in 3 classes (2 shards)".
  std::string describe_data() const;
  // How splits were made, and how many pictures could not be read so far.
  std::vector<std::string> notes() const override;

 private:
  const ImageSource& held_out(Split split) const;

  ImageClassificationConfig config_;
  ImageSplits splits_;
  mutable EpochOrder order_;
};

// What a model of any task with one class an example says of its classes: logits [B, classes] -> float64 [B, classes]. Softmax, but where
// an image_classification task was trained by another loss.
at::Tensor class_probabilities(const Task& task, const at::Tensor& logits);

std::unique_ptr<TaskConfig> make_image_classification_config();
std::unique_ptr<Task> make_image_classification_task(const TaskConfig& config);

}  // namespace adatape
