// What images there are to classify and how they are shown: `[task]` with name = "image_classification".
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adatape/data/preprocess.h"
#include "adatape/tasks/task.h"

namespace adatape {

inline constexpr const char* kImageClassification = "task image_classification";  // who speaks in its errors

struct ImageClassificationConfig : TaskConfig {
  std::string format = "idx";
  std::string path = "/usr/share/datasets/fashion-mnist";
  std::optional<int64_t> channels, height, width;  // "auto": 1 x 28 x 28 for idx, else 3 x 224 x 224
  std::optional<int64_t> resize;                   // "auto": no margin for idx, else 8/7 of the shorter side
  std::string interpolation = "bilinear";
  std::vector<double> mean{0.5}, deviation{0.5};
  std::optional<int64_t> classes;  // "auto": 10 for idx, those found for folder
  std::string names;               // comma-separated; empty: those found, Fashion-MNIST's for an idx folder of that name, else the numbers
  int64_t validation_examples = 5000;
  int64_t unreadable_limit = 100;
  std::string augment = "none";
  int64_t shift = 2;
  double smallest_crop = 0.05;
  int64_t rand_augment = 0;
  double rand_augment_level = 10;
  double mixup = 0;
  std::string loss = "softmax";
  double label_smoothing = 0;

  ImageClassificationConfig() { name = "image_classification"; }
  void fields(FieldVisitor& visit) override;
  // Numbers in the place of "auto"; class names from the folders of path/train where none are given yet.
  void resolve() override;
  void validate() const override;
  InputSpec input_spec() const override;
  // How a picture becomes the model's input.
  Preprocess preprocess() const;
  std::vector<std::string> class_names() const;
  // logits [B, classes] -> float64 [B, classes]: with loss "sigmoid" each class for itself, so that they need not add up to 1.
  at::Tensor class_probabilities(const at::Tensor& logits) const;
};

// Comma-separated names; a backslash before a comma, a backslash or a blank makes it part of a name.
std::vector<std::string> split_names(const std::string& text);
std::string join_names(const std::vector<std::string>& names);

}  // namespace adatape
