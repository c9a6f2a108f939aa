#include "adatape/tasks/image_classification/image_classification_config.h"

#include <algorithm>
#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/data/image_folder.h"

namespace adatape {
namespace {

constexpr const char* kFashionNames = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot";
constexpr int64_t kMaximumInputPixels = int64_t{1} << 24;  // 200 MB of floats in three colours
constexpr int64_t kMaximumResize = 8192;                   // 200 MB of bytes for a square picture
constexpr int64_t kIdxClasses = 10;                        // of MNIST and its relatives

}  // namespace

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names(1);
  size_t kept = 0;  // of the last name: what is not a trailing blank
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escaped = text[i] == '\\' && i + 1 < text.size();
    if (escaped) ++i;
    std::string& name = names.back();
    if (!escaped && text[i] == ',') {
      name.resize(kept);
      names.emplace_back();
      kept = 0;
    } else if (escaped || text[i] != ' ' || !name.empty()) {
      name += text[i];
      if (escaped || text[i] != ' ') kept = name.size();
    }
  }
  names.back().resize(kept);
  return names;
}

std::string join_names(const std::vector<std::string>& names) {
  std::string text;
  for (size_t n = 0; n < names.size(); ++n) {
    if (n > 0) text += ',';
    for (size_t i = 0; i < names[n].size(); ++i) {
      const char letter = names[n][i];
      const bool outer_blank = letter == ' ' && (i == 0 || i + 1 == names[n].size());
      if (letter == ',' || letter == '\\' || outer_blank) text += '\\';
      text += letter;
    }
  }
  return text;
}

void ImageClassificationConfig::fields(FieldVisitor& visit) {
  const IntegerRange side{.minimum = 1, .maximum = 1 << 16};
  visit.text("name", name, "name of the task");
  visit.choice("format", format, {"idx", "folder", "tar"},
               "format of the files; idx: train- and t10k-images-idx3-ubyte(.gz), -labels-idx1-ubyte(.gz); folder: train/CLASS/*.jpg or "
               "*.png, likewise validation/ (or val/) and test/; tar: shards train/*.tar or x-train-*.tar (train as a word "
               "of its own) of KEY.jpg and KEY.cls, likewise");
  visit.text("path", path, "folder of the files (the default comes with the Debian package dataset-fashion-mnist)");
  visit.integer_or("channels", channels, "auto", {.minimum = 1, .maximum = 3},
                   "colours that the model sees: 1 (grey) or 3; auto = 1 for idx, else 3");
  visit.integer_or("height", height, "auto", side, "rows of an image as the model sees it; auto = 28 for idx, else 224");
  visit.integer_or("width", width, "auto", side, "columns of an image as the model sees it; auto = 28 for idx, else 224");
  visit.integer_or(
      "resize", resize, "auto", side,
      "a picture's shorter side is brought to this, then the centre is cut out; auto = as the model's for idx, else 8/7 of that "
      "(256 for 224)");
  visit.choice("interpolation", interpolation, {"bilinear", "bicubic"}, "how pictures are resized, with anti-aliasing");
  visit.reals("mean", mean, {}, "taken off a pixel's value in [0, 1]: one number, or one for each channel");
  visit.reals("std", deviation, {.minimum = 0, .exclusive_minimum = true},
              "what the rest is divided by: one number, or one for each channel; 0.5 and 0.5 give [-1, 1]");
  visit.integer_or("classes", classes, "auto", {.minimum = 2, .maximum = 1 << 24},
                   "number of classes; auto = 10 for idx, those found for folder; tar needs a number or class_names");
  visit.text("class_names", names,
             "names of the classes, separated by commas (\\, is a comma within a name); empty: the folders found, for idx those of "
             "Fashion-MNIST for a folder fashion-mnist, else numbers");
  visit.integer(
      "validation_examples", validation_examples, {.minimum = 1},
      "examples held out of the training files and never trained on: the last ones of idx; of pictures without a validation split at most "
      "this many, a tenth of each class, at least one of two");
  visit.integer("unreadable_limit", unreadable_limit, {.minimum = 0},
                "pictures that cannot be read and are passed over before it is an error; the next one takes the place");
  visit.choice(
      "augment", augment, {"none", "flip_shift", "inception"},
      "of training images; flip_shift: mirror every other one at random and shift it, border black; inception: show a random part, "
      "mirror every other one");
  visit.integer("shift", shift, {.minimum = 0, .maximum = 1 << 16}, "largest shift of flip_shift in each direction, pixels");
  visit.real("smallest_crop", smallest_crop, {.minimum = 0, .maximum = 1, .exclusive_minimum = true},
             "smallest part that inception shows, as a share of the picture's area");
  visit.integer("rand_augment", rand_augment, {.minimum = 0, .maximum = 100},
                "distortions of a training image, drawn from RandAugment's 16; 0 = off");
  visit.real("rand_augment_level", rand_augment_level, {.minimum = 0, .maximum = 1000}, "their strength, 10 is strong");
  visit.real("mixup", mixup, {.minimum = 0, .maximum = 1000},
             "alpha of mixup: training images are shown through each other in pairs, shares from Beta(alpha, alpha); 0 = off");
  visit.choice("loss", loss, {"softmax", "sigmoid"},
               "softmax: cross-entropy of one class out of all; sigmoid: of each class for itself, summed over classes");
  visit.real("label_smoothing", label_smoothing, {.minimum = 0, .maximum = 1}, "share of the target spread evenly over the classes");
}

void ImageClassificationConfig::resolve() {
  const bool idx = format == "idx";
  if (!channels) channels = idx ? 1 : 3;
  if (!height) height = idx ? 28 : 224;
  if (!width) width = idx ? 28 : 224;
  const int64_t shorter = std::min(*height, *width);
  if (!resize) resize = idx ? shorter : (shorter * 8 + 3) / 7;
  if (format == "folder" && names.empty()) {
    const auto training = split_folder(path, "train");
    ADATAPE_CHECK(training.has_value(), kImageClassification, "expected a folder train in ", path,
                  " (task.path), found none; to make a model without the data, name its classes: task.class_names=a,b,c");
    const std::vector<std::string> found = find_classes(*training);
    names = join_names(found);
    ADATAPE_CHECK(!classes || *classes == static_cast<int64_t>(found.size()), kImageClassification,
                  "expected task.classes = ", found.size(), ", a class for each folder in ", *training, ", got ", *classes,
                  "; leave it out");
  }
  ADATAPE_CHECK(format != "tar" || classes || !names.empty(), kImageClassification,
                "expected task.classes or task.class_names with format = \"tar\", got neither");
  if (!classes) classes = names.empty() ? kIdxClasses : static_cast<int64_t>(split_names(names).size());
}

void ImageClassificationConfig::validate() const {
  const bool idx = format == "idx";
  const size_t count = split_names(names).size();
  ADATAPE_CHECK(names.empty() || static_cast<int64_t>(count) == classes, kImageClassification, "expected ", classes.value_or(0),
                " class_names, got ", count, " (\"", names, "\")");
  ADATAPE_CHECK(!idx || channels == 1, kImageClassification, "expected channels = 1 for idx files, got ", channels.value_or(0));
  ADATAPE_CHECK(channels == 1 || channels == 3, kImageClassification, "expected channels 1 or 3, got ", channels.value_or(0));
  ADATAPE_CHECK(!idx || classes <= 256, kImageClassification, "expected at most 256 classes of idx files, got ", classes.value_or(0));
  ADATAPE_CHECK(augment == "none" || shift < std::min(*height, *width), kImageClassification, "expected shift below the image's ", *height,
                " x ", *width, " pixels, got ", shift);
  ADATAPE_CHECK(*resize >= std::min(*height, *width), kImageClassification, "expected resize of at least the image's shorter side, ",
                std::min(*height, *width), ", got ", *resize);
  ADATAPE_CHECK(*height * *width <= kMaximumInputPixels, kImageClassification, "expected a picture of at most ", kMaximumInputPixels,
                " pixels (4096 x 4096) as the model sees it, got task.height x task.width = ", *height, " x ", *width);
  ADATAPE_CHECK(*resize <= kMaximumResize, kImageClassification, "expected task.resize of at most ", kMaximumResize, ", got ", *resize);
  PlaneWriter{preprocess()};  // checks mean and std
}

InputSpec ImageClassificationConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = channels.value();
  spec.height = height.value();
  spec.width = width.value();
  spec.classes = classes.value();
  return spec;
}

Preprocess ImageClassificationConfig::preprocess() const {
  return {.channels = channels.value(),
          .height = height.value(),
          .width = width.value(),
          .resize = resize.value(),
          .interpolation = interpolation == "bicubic" ? Interpolation::kBicubic : Interpolation::kBilinear,
          .mean = mean,
          .deviation = deviation};
}

at::Tensor ImageClassificationConfig::class_probabilities(const at::Tensor& logits) const {
  return loss == "sigmoid" ? logits.to(at::kDouble).sigmoid() : logits.to(at::kDouble).softmax(1);
}

std::vector<std::string> ImageClassificationConfig::class_names() const {
  if (!names.empty()) return split_names(names);
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // "fashion-mnist/"
  const std::vector<std::string> fashion = split_names(kFashionNames);
  const int64_t count = classes.value_or(kIdxClasses);
  if (folder.filename() == "fashion-mnist" && count == static_cast<int64_t>(fashion.size())) return fashion;
  std::vector<std::string> numbers;
  for (int64_t i = 0; i < count; ++i) numbers.push_back(std::to_string(i));
  return numbers;
}

std::unique_ptr<TaskConfig> make_image_classification_config() { return std::make_unique<ImageClassificationConfig>(); }

}  // namespace adatape
