#include "adatape/tasks/image_classification/image_source.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <mutex>
#include <set>

#include "adatape/core/check.h"
#include "adatape/core/utf8.h"
#include "adatape/data/encoded_pictures.h"
#include "adatape/data/hold_out.h"
#include "adatape/data/image_folder.h"
#include "adatape/data/read_picture.h"
#include "adatape/data/tar_shards.h"
#include "adatape/tasks/image_classification/image_classification_config.h"
#include "adatape/tasks/image_classification/labelled_images.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

// A run of the images of an IDX file in memory.
class IdxSource : public ImageSource {
 public:
  IdxSource(const ImageClassificationConfig& config, std::shared_ptr<const LabelledImages> images, int64_t first, int64_t count)
      : view_(config), images_(std::move(images)), first_(first), count_(count) {}

  int64_t size() const override { return count_; }
  int64_t put(int64_t index, const std::optional<ShowingKey>& key, float* to) const override {
    view_.show_grey(images_->image(first_ + index), key, to);
    return images_->labels[static_cast<size_t>(first_ + index)];
  }

 private:
  const ImageView view_;
  const std::shared_ptr<const LabelledImages> images_;
  const int64_t first_, count_;
};

class FolderPictures : public EncodedPictures {
 public:
  explicit FolderPictures(std::vector<PictureFile> files) : files_(std::move(files)) {}
  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  int64_t label(int64_t index) const override { return file(index).label; }
  std::string name(int64_t index) const override { return printable(file(index).path); }
  std::string read(int64_t index) const override { return read_picture_file(file(index).path); }

 private:
  const PictureFile& file(int64_t index) const { return files_[static_cast<size_t>(index)]; }
  const std::vector<PictureFile> files_;
};

// Some of the samples of shards.
class TarPictures : public EncodedPictures {
 public:
  TarPictures(std::shared_ptr<const TarShards> shards, std::vector<uint32_t> chosen)
      : shards_(std::move(shards)), chosen_(std::move(chosen)) {}
  int64_t size() const override { return static_cast<int64_t>(chosen_.size()); }
  int64_t label(int64_t index) const override { return shards_->label(place(index)); }
  std::string name(int64_t index) const override { return shards_->name(place(index)); }
  std::string read(int64_t index) const override { return shards_->read(place(index)); }

 private:
  int64_t place(int64_t index) const { return chosen_[static_cast<size_t>(index)]; }
  const std::shared_ptr<const TarShards> shards_;
  const std::vector<uint32_t> chosen_;
};

// Pictures that are read and decoded when they are shown.
class PictureSource : public ImageSource {
 public:
  PictureSource(const ImageClassificationConfig& config, std::string split, std::unique_ptr<EncodedPictures> pictures)
      : view_(config), split_(std::move(split)), limit_(config.unreadable_limit), pictures_(std::move(pictures)) {}

  int64_t size() const override { return pictures_->size(); }

  // What cannot be read gives its place to the next one.
  int64_t put(int64_t index, const std::optional<ShowingKey>& key, float* to) const override {
    for (int64_t tried = 0; tried < size(); ++tried, index = (index + 1) % size()) {
      try {
        const std::string bytes = pictures_->read(index);
        view_.show({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), pictures_->name(index)}, key, to);
        return pictures_->label(index);
      } catch (const Error& error) {
        note_unreadable(index, error.what());
      }
    }
    throw Error(
        concat(kImageClassification, ": expected ", split_, " pictures, could read none of ", size(), "; the first: ", first_error()));
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
  void note_unreadable(int64_t index, const std::string& message) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    unreadable_.insert(index);
    if (first_error_.empty()) first_error_ = message;
    ADATAPE_CHECK(static_cast<int64_t>(unreadable_.size()) <= limit_, kImageClassification, "expected at most ", limit_, ' ', split_,
                  " pictures that cannot be read (task.unreadable_limit), got one more; the first: ", first_error_);
  }

  const ImageView view_;
  const std::string split_;  // its name
  const int64_t limit_;
  const std::unique_ptr<const EncodedPictures> pictures_;
  mutable std::mutex mutex_;
  mutable std::set<int64_t> unreadable_;  // guarded by mutex_
  mutable std::string first_error_;       // guarded by mutex_
};

// The classes of which no example is there, for people: 'class 3 ("cat")', '2 classes, the first of them 3 ("cat")'; "" where none lacks.
template <class Labels>
std::string lacking_classes(const ImageClassificationConfig& config, const Labels& labels) {
  std::vector<bool> found(static_cast<size_t>(*config.classes));
  for (const auto label : labels) found[static_cast<size_t>(label)] = true;
  const auto lacking = std::count(found.begin(), found.end(), false);
  if (lacking == 0) return "";
  const auto first = static_cast<size_t>(std::find(found.begin(), found.end(), false) - found.begin());
  const std::string number = std::to_string(first), name = config.class_names()[first];
  return concat(lacking == 1 ? "class " : concat(lacking, " classes, the first of them "), number,
                name == number ? "" : concat(" (\"", name, "\")"));
}

ImageSplits open_idx(const ImageClassificationConfig& config) {
  const auto read = [&](const char* prefix) {
    return std::make_shared<const LabelledImages>(read_idx_images(config.path, prefix, *config.height, *config.width, *config.classes));
  };
  const auto training = read("train"), test = read("t10k");
  ADATAPE_CHECK(config.validation_examples < training->size(), kImageClassification, "expected validation_examples below the ",
                training->size(), " images of the training files, got ", config.validation_examples);
  const int64_t count = training->size() - config.validation_examples;
  ImageSplits splits;
  // No error: EMNIST counts its letters from 1, so that class 0 has no image.
  for (const auto& [prefix, images] : {std::pair("train", training), std::pair("t10k", test)}) {
    const std::string lacking = lacking_classes(config, images->labels);
    if (!lacking.empty()) splits.notes.push_back(concat(prefix, "-labels-idx1-ubyte in ", config.path, ": no image of ", lacking));
  }
  splits.training = std::make_unique<IdxSource>(config, training, 0, count);
  splits.validation = std::make_unique<IdxSource>(config, training, count, config.validation_examples);
  splits.test = std::make_unique<IdxSource>(config, test, 0, test->size());
  return splits;
}

// The splits from what there is: `List` are examples that can be chosen from; name_of and label_of say what hold_out goes by.
template <class List, class Name, class Label, class Open>
ImageSplits make_splits(const ImageClassificationConfig& config, List training, List validation, List test, const Name& name_of,
                        const Label& label_of, const Open& open) {
  ADATAPE_CHECK(!training.empty(), kImageClassification, "expected training pictures (train) in ", config.path, " (task.path), found none");
  const auto names_of = [&](const List& list) {
    std::vector<std::string> names;
    for (const auto& one : list) names.push_back(name_of(one));
    return names;
  };
  ImageSplits splits;
  if (validation.empty()) {
    const std::vector<std::string> names = names_of(training);
    std::vector<int32_t> labels;
    for (const auto& one : training) labels.push_back(label_of(one));
    const std::vector<bool> held = hold_out(names, labels, config.validation_examples);
    List rest;
    std::set<int32_t> seen;  // classes
    for (size_t i = 0; i < held.size(); ++i) {
      (held[i] ? validation : rest).push_back(training[i]);
      if (held[i]) seen.insert(labels[i]);
    }
    training = std::move(rest);
    splits.notes.push_back(concat(config.path, " has no validation pictures (validation or val): ", validation.size(), " of its ",
                                  held.size(), " training pictures, always the same ones, are held out"));
    const int64_t unseen = *config.classes - static_cast<int64_t>(seen.size());
    if (unseen > 0) {
      splits.notes.push_back(concat(unseen, " of ", *config.classes, " classes have no validation picture: ",
                                    config.validation_examples < *config.classes
                                        ? concat("task.validation_examples is ", config.validation_examples)
                                        : std::string("a single picture stays in training")));
    }
  }
  // Files come class by class: an evaluation or a calibration on the first thousand would see some classes only.
  for (List* list : {&training, &validation, &test}) {
    List mixed;
    for (const size_t index : mixed_order(names_of(*list))) mixed.push_back((*list)[index]);
    *list = std::move(mixed);
  }
  const bool tested = !test.empty();
  if (!tested) {
    splits.notes.push_back(
        concat(config.path, " has no test pictures (test): the validation pictures, which choose the best weights, are the test"));
  }
  splits.training = std::make_unique<PictureSource>(config, "training", open(std::move(training)));
  splits.validation = std::make_shared<PictureSource>(config, "validation", open(std::move(validation)));
  splits.test = tested ? std::make_shared<PictureSource>(config, "test", open(std::move(test))) : splits.validation;
  return splits;
}

ImageSplits open_folder(const ImageClassificationConfig& config) {
  const std::vector<std::string> classes = config.class_names();
  const auto files_of = [&](const char* split) {
    const auto folder = split_folder(config.path, split);
    return folder ? find_pictures(*folder, classes) : std::vector<PictureFile>{};
  };
  return make_splits(
      config, files_of("train"), files_of("validation"), files_of("test"),
      [&](const PictureFile& file) { return fs::path(file.path).lexically_relative(config.path).string(); },
      [](const PictureFile& file) { return file.label; },
      [](std::vector<PictureFile> files) { return std::make_unique<FolderPictures>(std::move(files)); });
}

ImageSplits open_tar(const ImageClassificationConfig& config) {
  constexpr std::array kSplits = {"train", "validation", "test"};
  // All shards in one list, so that a part of one split's samples can be another split.
  std::vector<std::string> paths;
  std::vector<size_t> last;  // behind the shards of each split
  for (const char* split : kSplits) {
    const std::vector<std::string> found = find_shards(config.path, split);
    paths.insert(paths.end(), found.begin(), found.end());
    last.push_back(paths.size());
  }
  const auto shards = std::make_shared<const TarShards>(paths);
  std::array<std::vector<uint32_t>, kSplits.size()> samples;
  std::array<std::vector<int32_t>, kSplits.size()> labels;
  for (int64_t i = 0; i < shards->size(); ++i) {
    ADATAPE_CHECK(shards->label(i) < *config.classes, kImageClassification, shards->name(i), ": expected a class below ", *config.classes,
                  " (task.classes), got ", shards->label(i), "; raise task.classes or make the shard again");
    const size_t split = shards->shard(i) < last[0] ? 0 : shards->shard(i) < last[1] ? 1 : 2;
    samples[split].push_back(static_cast<uint32_t>(i));
    labels[split].push_back(static_cast<int32_t>(shards->label(i)));
  }
  for (size_t split = 0; split < samples.size(); ++split) {
    const std::string lacking = samples[split].empty() ? "" : lacking_classes(config, labels[split]);
    ADATAPE_CHECK(lacking.empty(), kImageClassification, "expected pictures of every class in the ", kSplits[split], " shards of ",
                  config.path, ", found none of ", lacking, "; add some, or lower task.classes (classes are numbered from 0 without gaps)");
  }
  ImageSplits splits = make_splits(
      config, std::move(samples[0]), std::move(samples[1]), std::move(samples[2]), [&](uint32_t i) { return shards->key(i); },
      [&](uint32_t i) { return static_cast<int32_t>(shards->label(i)); },
      [&](std::vector<uint32_t> chosen) { return std::make_unique<TarPictures>(shards, std::move(chosen)); });
  splits.shards = static_cast<int64_t>(paths.size());
  return splits;
}

}  // namespace

ImageSplits open_splits(const ImageClassificationConfig& config) {
  if (config.format == "idx") return open_idx(config);
  return config.format == "tar" ? open_tar(config) : open_folder(config);
}

}  // namespace adatape
