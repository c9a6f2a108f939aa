#include "adatape/tasks/cluttered_scenes/cluttered_scenes_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>

#include "adatape/core/check.h"
#include "adatape/tasks/classification.h"

namespace adatape {
namespace {

constexpr const char* kClutteredScenesComponent = "task cluttered_scenes";
// Held-out scenes: their seed, and a stream for each split; training uses stream 0 and the training seed.
constexpr uint64_t kClutteredScenesHeldOutSeed = 0x5ce9e5;
constexpr uint64_t kTrainingStream = 0, kValidationStream = 1, kTestStream = 2;

const ClutteredScenesConfig& validated(const ClutteredScenesConfig& config) {
  config.validate();
  return config;
}

// Takes the last `count` images away and returns them.
LabelledImages split_off(LabelledImages& images, int64_t count) {
  ADATAPE_CHECK(count < images.size(), kClutteredScenesComponent, "expected validation_examples below the ", images.size(),
                " images of the training files, got ", count);
  const auto labels = static_cast<size_t>(images.size() - count);
  const size_t pixels = labels * static_cast<size_t>(images.height * images.width);
  LabelledImages last{images.height,
                      images.width,
                      {images.pixels.begin() + static_cast<int64_t>(pixels), images.pixels.end()},
                      {images.labels.begin() + static_cast<int64_t>(labels), images.labels.end()}};
  images.pixels.resize(pixels);
  images.labels.resize(labels);
  return last;
}

Batch empty_batch(int64_t count, int64_t canvas) {
  Batch batch;
  batch.images = at::empty({count, 1, canvas, canvas}, at::kFloat);
  batch.labels = at::empty({count}, at::kLong);
  batch.examples = at::empty({count}, at::kLong);
  return batch;
}

}  // namespace

void ClutteredScenesConfig::fields(FieldVisitor& visit) {
  const IntegerRange side{.minimum = 1, .maximum = 4096};
  const RealRange scale{.minimum = 0, .maximum = 100, .exclusive_minimum = true};
  visit.text("name", name, "name of the task");
  visit.text("path", path,
             "folder of the IDX files that scenes are made of (the default comes with the Debian package dataset-fashion-mnist)");
  visit.integer("height", height, side, "rows of an image of the files");
  visit.integer("width", width, side, "columns of an image of the files");
  visit.integer("classes", classes, {.minimum = 2, .maximum = 256}, "number of classes");
  visit.text("class_names", names,
             "names of the classes, separated by commas; empty: those of Fashion-MNIST for a folder fashion-mnist, else numbers");
  visit.integer("validation_examples", validation_examples, {.minimum = 1},
                "the last examples of the training files, held out for validation and never trained on");
  visit.integer("canvas", scene.canvas, side, "side of a scene in pixels");
  visit.integer("pieces", scene.pieces, {.minimum = 0, .maximum = 10000}, "clutter pieces of a scene");
  visit.integer("smallest_piece", scene.smallest_piece, side, "smallest side of a clutter piece in pixels");
  visit.integer("largest_piece", scene.largest_piece, side, "largest side of a clutter piece in pixels");
  visit.real("smallest_scale", scene.smallest_scale, scale, "smallest size of the garment, against its size in the files");
  visit.real("largest_scale", scene.largest_scale, scale, "largest size of the garment");
  visit.real("label_smoothing", label_smoothing, {.minimum = 0, .maximum = 1}, "share of the target spread evenly over the classes");
}

ImageClassificationConfig ClutteredScenesConfig::images() const {
  ImageClassificationConfig config;
  config.path = path;
  config.height = height;
  config.width = width;
  config.classes = classes;
  config.names = names;
  config.resolve();
  return config;
}

ImageClassificationConfig ClutteredScenesConfig::scenes() const {
  ImageClassificationConfig config = images();
  config.height = config.width = config.resize = scene.canvas;
  config.mean = config.deviation = {0.5};
  return config;
}

void ClutteredScenesConfig::validate() const {
  images().validate();
  ADATAPE_CHECK(scene.smallest_piece <= scene.largest_piece && scene.largest_piece <= std::min({height, width, scene.canvas}),
                kClutteredScenesComponent, "expected smallest_piece <= largest_piece <= the images' ", height, " x ", width,
                " and the canvas, got ", scene.smallest_piece, " and ", scene.largest_piece);
  ADATAPE_CHECK(scene.smallest_scale <= scene.largest_scale, kClutteredScenesComponent, "expected smallest_scale <= largest_scale, got ",
                scene.smallest_scale, " and ", scene.largest_scale);
  ADATAPE_CHECK(scene.largest_scale * static_cast<double>(std::max(height, width)) <= static_cast<double>(scene.canvas),
                kClutteredScenesComponent, "expected a garment that fits the canvas of ", scene.canvas, " pixels, got largest_scale ",
                scene.largest_scale, " of images of ", height, " x ", width);
}

InputSpec ClutteredScenesConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 1;
  spec.height = spec.width = scene.canvas;
  spec.classes = classes;
  return spec;
}

ClutteredScenesTask::ClutteredScenesTask(const ClutteredScenesConfig& config)
    : config_(validated(config)),
      training_(read_idx_images(config.path, "train", config.height, config.width, config.classes)),
      validation_(split_off(training_, config.validation_examples)),
      test_(read_idx_images(config.path, "t10k", config.height, config.width, config.classes)),
      order_(training_.size()) {}

Batch ClutteredScenesTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, kClutteredScenesComponent, "expected a batch size >= 1, got ", batch_size);
  const auto epoch_size = static_cast<uint64_t>(training_.size());
  const int64_t canvas = config_.scene.canvas;
  Batch batch = empty_batch(batch_size, canvas);
  for (int64_t i = 0; i < batch_size; ++i) {
    const uint64_t place = step * static_cast<uint64_t>(batch_size) + static_cast<uint64_t>(i), epoch = place / epoch_size;
    const int64_t index = (*order_.permutation(seed, epoch))[place % epoch_size];
    const uint64_t example = epoch * epoch_size + static_cast<uint64_t>(index);
    draw_scene(training_, index, config_.scene, seed, kTrainingStream, example, batch.images.data_ptr<float>() + i * canvas * canvas);
    batch.labels.data_ptr<int64_t>()[i] = training_.labels[static_cast<size_t>(index)];
    batch.examples.data_ptr<int64_t>()[i] = static_cast<int64_t>(example);
  }
  return batch;
}

const LabelledImages& ClutteredScenesTask::held_out(Split split) const {
  ADATAPE_CHECK(split != Split::kTrain, kClutteredScenesComponent, "expected the validation or test split, got the training split");
  return split == Split::kTest ? test_ : validation_;
}

int64_t ClutteredScenesTask::held_out_size(Split split) const { return held_out(split).size(); }

Box ClutteredScenesTask::draw(Split split, int64_t index, float* pixels) const {
  return draw_scene(held_out(split), index, config_.scene, kClutteredScenesHeldOutSeed,
                    split == Split::kTest ? kTestStream : kValidationStream, static_cast<uint64_t>(index), pixels);
}

Batch ClutteredScenesTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const int64_t size = held_out_size(split), canvas = config_.scene.canvas;
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= size && count <= size - first, kClutteredScenesComponent,
                "expected held-out examples within 0 .. ", size - 1, ", got ", count, " from ", first);
  Batch batch = empty_batch(count, canvas);
  for (int64_t i = 0; i < count; ++i) {
    draw(split, first + i, batch.images.data_ptr<float>() + i * canvas * canvas);
    batch.labels.data_ptr<int64_t>()[i] = held_out(split).labels[static_cast<size_t>(first + i)];
    batch.examples.data_ptr<int64_t>()[i] = first + i;
  }
  return batch;
}

at::Tensor ClutteredScenesTask::held_out_boxes(Split split, int64_t first, int64_t count) const {
  ADATAPE_CHECK(first >= 0 && count >= 0 && first + count <= held_out_size(split), kClutteredScenesComponent,
                "expected held-out examples within 0 .. ", held_out_size(split) - 1, ", got ", count, " from ", first);
  at::Tensor boxes = at::empty({count, 4}, at::kLong);
  std::vector<float> pixels(static_cast<size_t>(config_.scene.canvas * config_.scene.canvas));
  for (int64_t i = 0; i < count; ++i) {
    const Box box = draw(split, first + i, pixels.data());
    int64_t* row = boxes.data_ptr<int64_t>() + 4 * i;
    row[0] = box.top, row[1] = box.left, row[2] = box.height, row[3] = box.width;
  }
  return boxes;
}

at::Tensor ClutteredScenesTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return classification_loss(kClutteredScenesComponent, logits, batch.labels, config_.classes, config_.label_smoothing);
}

at::Tensor ClutteredScenesTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return classification_correct(kClutteredScenesComponent, logits, batch.labels, config_.classes);
}

at::Tensor ClutteredScenesTask::example_covariate(const Batch& batch) const {
  ADATAPE_CHECK(batch.labels.defined(), kClutteredScenesComponent, "expected a batch with labels, got one without");
  return batch.labels.cpu().to(at::kFloat);
}

std::unique_ptr<TaskConfig> make_cluttered_scenes_config() { return std::make_unique<ClutteredScenesConfig>(); }

std::unique_ptr<Task> make_cluttered_scenes_task(const TaskConfig& config) {
  const auto* scenes = dynamic_cast<const ClutteredScenesConfig*>(&config);
  ADATAPE_CHECK(scenes != nullptr, kClutteredScenesComponent, "expected the configuration of task cluttered_scenes, got that of \"",
                config.name, '"');
  return std::make_unique<ClutteredScenesTask>(*scenes);
}

}  // namespace adatape
