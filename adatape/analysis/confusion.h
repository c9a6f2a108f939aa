// How a classifier errs: the part of a report that shows confusion matrices.
#pragma once

#include <vector>

#include "adatape/analysis/comparison.h"
#include "adatape/analysis/figures.h"
#include "adatape/analysis/page.h"

namespace adatape {

// A heatmap of rows (true classes) as shares of the row, the diagonal left blank so that errors are seen; counts on hover.
// confusion [C][C]; names: of the classes, as many as rows.
Figure confusion_figure(const std::vector<std::vector<int64_t>>& confusion, const std::vector<std::string>& names);

// A folded figure for each model whose result has a confusion matrix of more than two classes; nothing where none has.
void add_confusions(Page& page, const Comparison& comparison);

}  // namespace adatape
