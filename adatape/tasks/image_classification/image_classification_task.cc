#include "adatape/tasks/image_classification/image_classification_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/tasks/classification.h"

namespace adatape {
namespace {

constexpr const char* kComponent = "task image_classification";
constexpr const char* kFashionNames = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot";

// How an image is moved before it is shown: mirrored left to right first, then shifted; what comes into view is 0 (black, -1 as float).
struct Move {
  bool flip = false;
  int64_t down = 0, right = 0;
};

// Bytes 0 .. 255 to floats -1 .. 1.
const std::array<float, 256>& float_of_byte() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (size_t byte = 0; byte < values.size(); ++byte) values[byte] = static_cast<float>(byte) / 127.5f - 1.0f;
    return values;
  }();
  return table;
}

// Plain loops, no ATen kernels: batches are made on threads that must not start an OpenMP team each.
void copy_image(const uint8_t* from, int64_t height, int64_t width, const Move& move, float* to) {
  const std::array<float, 256>& table = float_of_byte();
  for (int64_t y = 0; y < height; ++y, to += width) {
    const int64_t source_y = y - move.down;
    const int64_t begin = std::clamp<int64_t>(move.right, 0, width), end = std::clamp<int64_t>(width + move.right, 0, width);
    if (source_y < 0 || source_y >= height) {
      std::fill(to, to + width, table[0]);
      continue;
    }
    std::fill(to, to + begin, table[0]);
    std::fill(to + end, to + width, table[0]);
    const uint8_t* row = from + source_y * width;
    if (move.flip) {
      for (int64_t x = begin; x < end; ++x) to[x] = table[row[width - 1 - (x - move.right)]];
    } else {
      for (int64_t x = begin; x < end; ++x) to[x] = table[row[x - move.right]];
    }
  }
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t comma = std::min(text.find(',', begin), text.size());
    const size_t first = text.find_first_not_of(' ', begin);
    size_t last = comma;
    while (last > begin && text[last - 1] == ' ') --last;
    names.push_back(first < last ? text.substr(first, last - first) : "");
    begin = comma + 1;
  }
  return names;
}

// A batch to be filled image by image.
Batch empty_batch(int64_t count, const ImageClassificationConfig& config) {
  Batch batch;
  batch.images = at::empty({count, config.channels, config.height, config.width}, at::kFloat);
  batch.labels = at::empty({count}, at::kLong);
  batch.examples = at::empty({count}, at::kLong);
  return batch;
}

void put(Batch& batch, int64_t place, const LabelledImages& images, int64_t index, int64_t example, const Move& move) {
  const int64_t pixels = images.height * images.width;
  copy_image(images.image(index), images.height, images.width, move, batch.images.data_ptr<float>() + place * pixels);
  batch.labels.data_ptr<int64_t>()[place] = images.labels[static_cast<size_t>(index)];
  batch.examples.data_ptr<int64_t>()[place] = example;
}

// Checked before the members that need it are made.
const ImageClassificationConfig& validated(const ImageClassificationConfig& config) {
  config.validate();
  return config;
}

int64_t training_examples(const ImageClassificationConfig& config, const LabelledImages& images) {
  ADATAPE_CHECK(config.validation_examples < images.size(), kComponent, "expected validation_examples below the ", images.size(),
                " images of the training files, got ", config.validation_examples);
  return images.size() - config.validation_examples;
}

}  // namespace

void ImageClassificationConfig::fields(FieldVisitor& visit) {
  const IntegerRange side{.minimum = 1, .maximum = 1 << 16};
  visit.text("name", name, "name of the task");
  visit.choice("format", format, {"idx"}, "format of the files; idx: train- and t10k-images-idx3-ubyte(.gz), -labels-idx1-ubyte(.gz)");
  visit.text("path", path, "folder of the files (the default comes with the Debian package dataset-fashion-mnist)");
  visit.integer("channels", channels, {.minimum = 1, .maximum = 1}, "colours of an image; idx files have 1");
  visit.integer("height", height, side, "rows of an image");
  visit.integer("width", width, side, "columns of an image");
  visit.integer("classes", classes, {.minimum = 2, .maximum = 256}, "number of classes");
  visit.text("class_names", names,
             "names of the classes, separated by commas; empty: those of Fashion-MNIST for a folder fashion-mnist, else numbers");
  visit.integer("validation_examples", validation_examples, {.minimum = 1},
                "the last examples of the training files, held out for validation and never trained on");
  visit.choice("augment", augment, {"none", "flip_shift"},
               "flip_shift: mirror every other training image at random and shift it, border black");
  visit.integer("shift", shift, {.minimum = 0, .maximum = 1 << 16}, "largest shift of flip_shift in each direction, pixels");
  visit.real("label_smoothing", label_smoothing, {.minimum = 0, .maximum = 1}, "share of the target spread evenly over the classes");
}

void ImageClassificationConfig::validate() const {
  const size_t count = split_names(names).size();
  ADATAPE_CHECK(names.empty() || static_cast<int64_t>(count) == classes, kComponent, "expected ", classes, " class_names, got ", count,
                " (\"", names, "\")");
  ADATAPE_CHECK(augment == "none" || shift < std::min(height, width), kComponent, "expected shift below the image's ", height, " x ", width,
                " pixels, got ", shift);
}

InputSpec ImageClassificationConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = channels;
  spec.height = height;
  spec.width = width;
  spec.classes = classes;
  return spec;
}

std::vector<std::string> ImageClassificationConfig::class_names() const {
  if (!names.empty()) return split_names(names);
  std::filesystem::path folder = std::filesystem::path(path).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();  // "fashion-mnist/"
  const std::vector<std::string> fashion = split_names(kFashionNames);
  if (folder.filename() == "fashion-mnist" && classes == static_cast<int64_t>(fashion.size())) return fashion;
  std::vector<std::string> numbers;
  for (int64_t i = 0; i < classes; ++i) numbers.push_back(std::to_string(i));
  return numbers;
}

ImageClassificationTask::ImageClassificationTask(const ImageClassificationConfig& config)
    : config_(validated(config)),
      training_(read_idx_images(config.path, "train", config.height, config.width, config.classes)),
      test_(read_idx_images(config.path, "t10k", config.height, config.width, config.classes)),
      training_examples_(training_examples(config, training_)),
      order_(training_examples_) {}

Batch ImageClassificationTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, kComponent, "expected a batch size >= 1, got ", batch_size);
  const auto epoch_size = static_cast<uint64_t>(training_examples_);
  Batch batch = empty_batch(batch_size, config_);
  EpochOrder::Permutation order;
  uint64_t order_epoch = 0;
  for (int64_t i = 0; i < batch_size; ++i) {
    const uint64_t place = step * static_cast<uint64_t>(batch_size) + static_cast<uint64_t>(i);
    const uint64_t epoch = place / epoch_size;
    if (order == nullptr || epoch != order_epoch) {
      order = order_.permutation(seed, epoch);
      order_epoch = epoch;
    }
    const uint64_t index = (*order)[place % epoch_size];
    const uint64_t example = epoch * epoch_size + index;
    Move move;
    if (config_.augment == "flip_shift") {
      CounterRng random(seed, 0, site(Site::kAugment), example);
      const auto range = static_cast<uint64_t>(2 * config_.shift + 1);
      move.flip = random.below(2) == 1;
      move.down = static_cast<int64_t>(random.below(range)) - config_.shift;
      move.right = static_cast<int64_t>(random.below(range)) - config_.shift;
    }
    put(batch, i, training_, static_cast<int64_t>(index), static_cast<int64_t>(example), move);
  }
  return batch;
}

Batch ImageClassificationTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const int64_t size = held_out_size(split);
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= size && count <= size - first, kComponent, "expected held-out examples within 0 .. ",
                size - 1, ", got ", count, " from ", first);
  const bool test = split == Split::kTest;
  Batch batch = empty_batch(count, config_);
  for (int64_t i = 0; i < count; ++i) {
    put(batch, i, test ? test_ : training_, (test ? 0 : training_examples_) + first + i, first + i, Move{});
  }
  return batch;
}

int64_t ImageClassificationTask::held_out_size(Split split) const {
  ADATAPE_CHECK(split != Split::kTrain, kComponent, "expected the validation or test split, got the training split");
  return split == Split::kTest ? test_.size() : config_.validation_examples;
}

at::Tensor ImageClassificationTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return classification_loss(kComponent, logits, batch.labels, config_.classes, config_.label_smoothing);
}

at::Tensor ImageClassificationTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return classification_correct(kComponent, logits, batch.labels, config_.classes);
}

at::Tensor ImageClassificationTask::example_covariate(const Batch& batch) const {
  ADATAPE_CHECK(batch.labels.defined(), kComponent, "expected a batch with labels, got one without");
  return batch.labels.cpu().to(at::kFloat);
}

std::unique_ptr<TaskConfig> make_image_classification_config() { return std::make_unique<ImageClassificationConfig>(); }

std::unique_ptr<Task> make_image_classification_task(const TaskConfig& config) {
  const auto* images = dynamic_cast<const ImageClassificationConfig*>(&config);
  ADATAPE_CHECK(images != nullptr, kComponent, "expected the configuration of task image_classification, got that of \"", config.name, '"');
  return std::make_unique<ImageClassificationTask>(*images);
}

}  // namespace adatape
