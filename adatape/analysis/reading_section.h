// The part of a report that shows what single examples read.
#pragma once

#include "adatape/analysis/comparison.h"
#include "adatape/analysis/figures.h"
#include "adatape/analysis/page.h"

namespace adatape {

// The examples of each model with readers; the first model's are visible, a menu chooses another.
void add_readings(Page& page, const Comparison& comparison, const ModelIndices& readers);

}  // namespace adatape
