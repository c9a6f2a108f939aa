// A random part of a picture, as training on photographs draws it.
#pragma once

#include "adatape/core/rng.h"
#include "adatape/data/picture.h"

namespace adatape {

// A part whose width / height is uniform in [3/4, 4/3] and whose height is uniform over those with an area of smallest_share .. 1 of the
// picture (so small parts are rarer than with a uniform area), anywhere in it. After 100 draws that do not fit: the largest part of an
// allowed shape, in the middle. Source: arXiv 1409.4842, section 6; drawn as TensorFlow's sample_distorted_bounding_box does.
Box inception_crop(int64_t height, int64_t width, double smallest_share, CounterRng& random);

}  // namespace adatape
