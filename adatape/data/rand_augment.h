// RandAugment: a few random distortions of one strength. Source: arXiv 1909.13719.
#pragma once

#include <array>

#include "adatape/core/rng.h"
#include "adatape/data/picture.h"

namespace adatape {

enum class Distortion {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kColour,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
  kCutout,
  kSolarizeAdd,
};
constexpr int64_t kDistortions = 16;

// One distortion at strength `level` (10 is strong, more is allowed). Arguments of a level, as big_vision has them:
//   rotate 3 degrees, shear 0.03, translate 10/224 of the side, each to a random direction; what comes into view is grey (128)
//   colour, contrast, brightness, sharpness: blend by 0.1 + 0.18 with the grey, evenly grey, black, smoothed picture (1: as it is)
//   posterize: keeps 0.4 bits a level, at most 8; solarize: inverts from 25.6 on, at most 256 (nothing); solarize_add: adds 11 below 128
//   cutout: a grey square at a random place, half its side 4/224 of the shorter side
void distort(Picture& picture, Distortion distortion, double level, CounterRng& random);

// `layers` distortions, each drawn evenly from all 16, one after another.
void rand_augment(Picture& picture, int64_t layers, double level, CounterRng& random);

}  // namespace adatape
