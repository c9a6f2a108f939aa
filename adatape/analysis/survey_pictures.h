// Pictures of a survey of readings (reading_survey.h), as PNG files.
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/reading_survey.h"
#include "adatape/data/picture.h"

namespace adatape {

// A grid of values as cells of equal size, dark for 0 to bright for `largest`.
Picture heatmap_picture(const BankGrid& grid, const std::vector<double>& values, double largest, int64_t side);

// The example's image enlarged to `side` pixels, each patch that was read shaded by its weight in the colour of its step and outlined. The
// first reading of an image bank is shown; the plain image where there is none.
Picture reading_picture(const ShownExample& example, int64_t side);

// Pictures of equal size side by side, `columns` in a line, on white.
Picture montage(const std::vector<Picture>& pictures, int64_t columns);

// Writes into an existing folder, and returns the names of the files: reader_R_heatmap.png and reader_R_classes.png (in the order of the
// classes) for image banks; shortest.png and longest.png for images.
std::vector<std::string> write_survey_pictures(const ReadingSurvey& survey, const std::string& folder);

}  // namespace adatape
