// A cluttered scene: one garment at a random place and scale among pieces of other garments.
#pragma once

#include <cstdint>
#include <vector>

#include "adatape/data/picture.h"
#include "adatape/tasks/image_classification/labelled_images.h"

namespace adatape {

struct SceneShape {
  int64_t canvas = 96;                             // side in pixels
  int64_t pieces = 16;                             // of clutter
  int64_t smallest_piece = 8, largest_piece = 16;  // side in pixels
  double smallest_scale = 1, largest_scale = 2;    // of the garment, against its size in the file
};

// Draws the scene of one image (`garment`, an index into images) into pixels [canvas, canvas] in -1 .. 1 (black = -1): a function of (seed,
// stream, scene) alone. Pieces are squares cut at random from other images, pasted first; the garment covers them where it is not black.
// Returns the smallest rectangle that holds all pixels of the garment that are not black.
Box draw_scene(const LabelledImages& images, int64_t garment, const SceneShape& shape, uint64_t seed, uint64_t stream, uint64_t scene,
               float* pixels);

}  // namespace adatape
