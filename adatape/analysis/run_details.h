// The parts of a report that record how each run was made.
#pragma once

#include "adatape/analysis/comparison.h"
#include "adatape/analysis/page.h"

namespace adatape {

// Every draw of the weights of every run, those of learning rates that were not chosen included.
void add_draws(Page& page, const Comparison& comparison);

// For each model, folded: its cost by part, and of every run command, version, device and configuration.
void add_run_details(Page& page, const Comparison& comparison);

}  // namespace adatape
