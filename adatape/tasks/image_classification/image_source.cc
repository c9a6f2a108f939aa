#include "adatape/tasks/image_classification/image_source.h"

#include <mutex>
#include <set>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/rng.h"
#include "adatape/core/utf8.h"
#include "adatape/data/decode.h"
#include "adatape/data/image_folder.h"
#include "adatape/tasks/image_classification/labelled_images.h"

namespace adatape {
namespace {

constexpr const char* kComponent = "task image_classification";

Move draw_move(const ImageClassificationConfig& config, const std::optional<ShowingKey>& key) {
  Move move;
  if (!key || config.augment != "flip_shift") return move;
  CounterRng random(key->seed, 0, site(Site::kAugment), key->example);
  const auto range = static_cast<uint64_t>(2 * config.shift + 1);
  move.flip = random.below(2) == 1;
  move.down = static_cast<int64_t>(random.below(range)) - config.shift;
  move.right = static_cast<int64_t>(random.below(range)) - config.shift;
  return move;
}

// A run of the images of an IDX file in memory.
class IdxSource : public ImageSource {
 public:
  IdxSource(const ImageClassificationConfig& config, std::shared_ptr<const LabelledImages> images, int64_t first, int64_t count)
      : config_(config), writer_(config.preprocess()), images_(std::move(images)), first_(first), count_(count) {}

  int64_t size() const override { return count_; }
  int64_t put(int64_t index, const std::optional<ShowingKey>& key, float* to) const override {
    writer_.write_grey(images_->image(first_ + index), draw_move(config_, key), to);
    return images_->labels[static_cast<size_t>(first_ + index)];
  }

 private:
  const ImageClassificationConfig config_;
  const PlaneWriter writer_;
  const std::shared_ptr<const LabelledImages> images_;
  const int64_t first_, count_;
};

// Files of JPEG and PNG pictures, read when they are shown.
class FileSource : public ImageSource {
 public:
  FileSource(const ImageClassificationConfig& config, std::vector<PictureFile> files)
      : config_(config), preprocess_(config.preprocess()), writer_(preprocess_), files_(std::move(files)) {}

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }

  // What cannot be read gives its place to the next one.
  int64_t put(int64_t index, const std::optional<ShowingKey>& key, float* to) const override {
    for (int64_t tried = 0; tried < size(); ++tried, index = (index + 1) % size()) {
      try {
        show(files_[static_cast<size_t>(index)], key, to);
        return files_[static_cast<size_t>(index)].label;
      } catch (const Error& error) {
        note_unreadable(index, error.what());
      }
    }
    throw Error(concat(kComponent, ": expected pictures, could read none of ", size(), "; ", first_error()));
  }

  int64_t unreadable() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<int64_t>(unreadable_.size());
  }
  std::string first_error() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return first_error_;
  }

 private:
  void show(const PictureFile& file, const std::optional<ShowingKey>& key, float* to) const {
    const std::string bytes = read_file(file.path);
    const Picture whole = decode_picture({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), printable(file.path)});
    writer_.write(centre_view(whole, preprocess_), draw_move(config_, key), to);
  }

  void note_unreadable(int64_t index, const std::string& message) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    unreadable_.insert(index);
    if (first_error_.empty()) first_error_ = message;
    ADATAPE_CHECK(static_cast<int64_t>(unreadable_.size()) <= config_.unreadable_limit, kComponent, "expected at most ",
                  config_.unreadable_limit,
                  " pictures that cannot be read (task.unreadable_limit), got one more; the first: ", first_error_);
  }

  const ImageClassificationConfig config_;
  const Preprocess preprocess_;
  const PlaneWriter writer_;
  const std::vector<PictureFile> files_;
  mutable std::mutex mutex_;
  mutable std::set<int64_t> unreadable_;  // guarded by mutex_
  mutable std::string first_error_;       // guarded by mutex_
};

ImageSplits open_idx(const ImageClassificationConfig& config) {
  const auto read = [&](const char* prefix) {
    return std::make_shared<const LabelledImages>(read_idx_images(config.path, prefix, *config.height, *config.width, *config.classes));
  };
  const auto training = read("train"), test = read("t10k");
  ADATAPE_CHECK(config.validation_examples < training->size(), kComponent, "expected validation_examples below the ", training->size(),
                " images of the training files, got ", config.validation_examples);
  const int64_t count = training->size() - config.validation_examples;
  return {.training = std::make_unique<IdxSource>(config, training, 0, count),
          .validation = std::make_unique<IdxSource>(config, training, count, config.validation_examples),
          .test = std::make_unique<IdxSource>(config, test, 0, test->size()),
          .notes = {}};
}

ImageSplits open_folder(const ImageClassificationConfig& config) {
  const std::vector<std::string> classes = config.class_names();
  const auto files_of = [&](const char* split) {
    const auto folder = split_folder(config.path, split);
    return folder ? find_pictures(*folder, classes) : std::vector<PictureFile>{};
  };
  std::vector<PictureFile> training = files_of("train"), validation = files_of("validation"), test = files_of("test");
  ADATAPE_CHECK(!training.empty(), kComponent, "expected a folder train in ", config.path, " (task.path), found none");
  ImageSplits splits;
  if (validation.empty()) {
    const size_t all = training.size();
    validation = hold_out(training, config.path, config.validation_examples);
    splits.notes.push_back(concat(config.path, " has no folder validation or val: ", validation.size(), " of its ", all,
                                  " training pictures, always the same ones, are held out for validation"));
  }
  if (test.empty()) {
    test = validation;
    splits.notes.push_back(
        concat(config.path, " has no folder test: the validation pictures, which choose the best weights, are the test"));
  }
  splits.training = std::make_unique<FileSource>(config, std::move(training));
  splits.validation = std::make_unique<FileSource>(config, std::move(validation));
  splits.test = std::make_unique<FileSource>(config, std::move(test));
  return splits;
}

}  // namespace

ImageSplits open_splits(const ImageClassificationConfig& config) { return config.format == "idx" ? open_idx(config) : open_folder(config); }

}  // namespace adatape
