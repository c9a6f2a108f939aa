#include "adatape/tasks/image_classification/image_view.h"

#include "adatape/data/inception_crop.h"
#include "adatape/data/rand_augment.h"

namespace adatape {
namespace {

Picture picture_of_grey(const uint8_t* grey, int64_t height, int64_t width) {
  Picture picture(height, width);
  for (size_t i = 0; i < picture.pixels.size(); ++i) picture.pixels[i] = grey[i / 3];
  return picture;
}

CounterRng stream(const ShowingKey& key) { return {key.seed, 0, site(Site::kAugment), key.example}; }

}  // namespace

ImageView::ImageView(const ImageClassificationConfig& config) : config_(config), preprocess_(config.preprocess()), writer_(preprocess_) {}

Move ImageView::draw_move(CounterRng& random) const {
  Move move;
  if (config_.augment == "none") return move;
  move.flip = random.below(2) == 1;
  if (config_.augment != "flip_shift") return move;
  const auto range = static_cast<uint64_t>(2 * config_.shift + 1);
  move.down = static_cast<int64_t>(random.below(range)) - config_.shift;
  move.right = static_cast<int64_t>(random.below(range)) - config_.shift;
  return move;
}

void ImageView::show(const EncodedPicture& encoded, const std::optional<ShowingKey>& key, float* to) const {
  if (!key) return writer_.write(centre_view(decode_picture(encoded), preprocess_), {}, to);
  CounterRng random = stream(*key);
  Picture view;
  if (config_.augment == "inception") {
    const PictureDecoder decoder(encoded);
    const Box part = inception_crop(decoder.height(), decoder.width(), config_.smallest_crop, random);
    const DecodedPart decoded = decoder.decode_part(part, preprocess_.height, preprocess_.width);
    view = resample(decoded.picture, decoded.part, preprocess_.height, preprocess_.width, preprocess_.interpolation);
  } else {
    view = centre_view(decode_picture(encoded), preprocess_);
  }
  const Move move = draw_move(random);
  rand_augment(view, config_.rand_augment, config_.rand_augment_level, random);
  writer_.write(view, move, to);
}

void ImageView::show_grey(const uint8_t* grey, const std::optional<ShowingKey>& key, float* to) const {
  if (!key) return writer_.write_grey(grey, {}, to);
  CounterRng random = stream(*key);
  if (config_.augment != "inception" && config_.rand_augment == 0) return writer_.write_grey(grey, draw_move(random), to);
  Picture view = picture_of_grey(grey, preprocess_.height, preprocess_.width);
  if (config_.augment == "inception") {
    const Box part = inception_crop(view.height, view.width, config_.smallest_crop, random);
    view = resample(view, part, preprocess_.height, preprocess_.width, preprocess_.interpolation);
  }
  const Move move = draw_move(random);
  rand_augment(view, config_.rand_augment, config_.rand_augment_level, random);
  writer_.write(view, move, to);
}

}  // namespace adatape
