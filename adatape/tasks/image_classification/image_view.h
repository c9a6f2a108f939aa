// How one image is shown to the model: as it is, or augmented as configured.
#pragma once

#include <cstdint>
#include <optional>

#include "adatape/core/rng.h"
#include "adatape/data/decode.h"
#include "adatape/data/preprocess.h"
#include "adatape/tasks/image_classification/image_classification_config.h"

namespace adatape {

// What the random draws of one showing of a training image depend on.
struct ShowingKey {
  uint64_t seed = 0, example = 0;
};

// Thread-safe. Without a key an image is shown as it is: resized and its centre cut out. With one it is augmented; the draws, in their
// order: the part (inception), mirroring and shift, RandAugment.
class ImageView {
 public:
  explicit ImageView(const ImageClassificationConfig& config);
  // to: [channels, height, width]. Error when the picture cannot be read.
  void show(const EncodedPicture& encoded, const std::optional<ShowingKey>& key, float* to) const;
  // grey: [height, width].
  void show_grey(const uint8_t* grey, const std::optional<ShowingKey>& key, float* to) const;

 private:
  Move draw_move(CounterRng& random) const;
  const ImageClassificationConfig config_;
  const Preprocess preprocess_;
  const PlaneWriter writer_;
};

}  // namespace adatape
