// Pictures of a survey of readings (reading_survey.h), as PNG files.
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/reading_survey.h"
#include "adatape/data/picture.h"

namespace adatape {

// A grid of values as cells in the shape of the image, dark for 0 to bright for `largest`; its longer side has `side` pixels.
Picture heatmap_picture(const BankGrid& grid, const std::vector<double>& values, double largest, int64_t side);

// A picture of shares with the scale of heatmap_picture beside it: what the colours from 0 to `largest` stand for.
Picture with_colour_bar(const Picture& picture, double largest, const std::string& title);

// A title above a picture, cut where it is too long.
Picture with_title(const Picture& picture, const std::string& title);

// Pictures of equal size side by side, `columns` in a line, on white.
Picture montage(const std::vector<Picture>& pictures, int64_t columns);

// Writes into an existing folder, and returns the names of the files: length_by_class.png, length_by_loss.png, length_by_margin.png; for
// image banks reader_R_heatmap.png, reader_R_centre.png and reader_R_classes.png (in the order of the classes); for images shortest.png and
// longest.png (draw_reading.h).
std::vector<std::string> write_survey_pictures(const ReadingSurvey& survey, const std::string& folder);

}  // namespace adatape
