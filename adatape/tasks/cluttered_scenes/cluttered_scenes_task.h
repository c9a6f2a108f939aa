// Cluttered scenes: which garment lies somewhere, at some size, among pieces of others? Made on the fly from IDX files such as
// Fashion-MNIST.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adatape/tasks/cluttered_scenes/scene.h"
#include "adatape/tasks/image_classification/epoch_order.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "adatape/tasks/task.h"

namespace adatape {

struct ClutteredScenesConfig : TaskConfig {
  std::string path = "/usr/share/datasets/fashion-mnist";
  int64_t height = 28, width = 28;  // of the files' images
  int64_t classes = 10;
  std::string names;
  int64_t validation_examples = 5000;
  SceneShape scene;
  double label_smoothing = 0;

  ClutteredScenesConfig() { name = "cluttered_scenes"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
  // The images that scenes are made of.
  ImageClassificationConfig images() const;
  // How a picture of a whole scene is shown to a model: as large as the canvas, grey, from -1 to 1.
  ImageClassificationConfig scenes() const;
};

// Training is an endless stream of epochs over the training images, as in image_classification; the scene of a stream place is a function
// of (training seed, place). Held-out scenes are functions of their split and place. Clutter comes from images of the scene's own split, so
// nothing of the test files is seen in training.
class ClutteredScenesTask : public Task {
 public:
  explicit ClutteredScenesTask(const ClutteredScenesConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override;
  int64_t epoch_size() const override { return training_.size(); }
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor held_out_boxes(Split split, int64_t first, int64_t count) const override;
  // float32 [B] on the CPU, the class.
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override { return "class"; }
  std::vector<std::string> class_names() const override { return config_.images().class_names(); }

 private:
  const LabelledImages& held_out(Split split) const;
  Box draw(Split split, int64_t index, float* pixels) const;

  ClutteredScenesConfig config_;
  LabelledImages training_, validation_, test_;
  mutable EpochOrder order_;
};

std::unique_ptr<TaskConfig> make_cluttered_scenes_config();
std::unique_ptr<Task> make_cluttered_scenes_task(const TaskConfig& config);

}  // namespace adatape
