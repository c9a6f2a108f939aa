// Where the images of a split come from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adatape/tasks/image_classification/image_view.h"

namespace adatape {

// The labelled images of one split. Thread-safe.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual int64_t size() const = 0;
  // Writes image `index` as floats [channels, height, width] and returns its class. With a key it is augmented as configured, else shown as
  // it is.
  virtual int64_t put(int64_t index, const std::optional<ShowingKey>& key, float* to) const = 0;
  // Images that could not be read so far, each counted once, and the first one's error.
  virtual int64_t unreadable() const { return 0; }
  virtual std::string first_error() const { return ""; }
};

// Pictures of folders and shards are in an order that mixes classes and is always the same (data/hold_out.h); images of IDX files in
// theirs.
struct ImageSplits {
  std::unique_ptr<ImageSource> training;
  std::shared_ptr<ImageSource> validation, test;  // one and the same where there is no test split
  std::vector<std::string> notes;                 // what a person should know of how they were made
  int64_t shards = 0;                             // tar files
};

// Opens the files that the (resolved) configuration names. Error: see labelled_images.h, data/image_folder.h and
// data/tar_shards.h; a class that a split of shards lacks.
ImageSplits open_splits(const ImageClassificationConfig& config);

}  // namespace adatape
