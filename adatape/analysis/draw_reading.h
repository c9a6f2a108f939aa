// What was read of one picture, as a picture.
#pragma once

#include <vector>

#include "adatape/analysis/tape_usage.h"
#include "adatape/data/picture.h"

namespace adatape {

// Side by side, enlarged by a whole factor until the shorter side has least_side pixels: the view as the model saw it, and for each reading
// of an image bank the view darkened, but for the patches that were read: outlined in the colour of their step (as in the report), shaded
// by weight and numbered by step from 1. Readings of learnable banks have no place in a picture and are left out.
Picture draw_readings(const Picture& view, const std::vector<ExampleReading>& readings, int64_t least_side = 448);

}  // namespace adatape
