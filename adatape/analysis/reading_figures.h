// What one example reads, as figures: the input with the places that were read, and the weights and halting sum of each step.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "adatape/analysis/figures.h"
#include "adatape/analysis/tape_usage.h"

namespace adatape {

// From blue (first step) over green to yellow (last): "#rrggbb".
std::string step_colour(size_t step, size_t steps);

// The input: a strip of symbols coloured by the step that read them, or the image with the patches that were read, outlined in the colour
// of their step, shaded by weight and numbered. nullopt for learnable banks: their rows have no place in the input.
std::optional<Figure> read_places(const ShownExample& example, const ExampleReading& reading, const std::vector<std::string>& symbol_names);

// Above: the weights of the rows merged at each step. Below: the halting sum after each step against the threshold.
Figure reading_steps(const ShownExample& example, const ExampleReading& reading, const std::vector<std::string>& symbol_names);

// How a row of the bank is called: the symbol and its place, the patch by row and column, or the row's number.
std::string row_name(const ShownExample& example, const ExampleReading& reading, int64_t row, const std::vector<std::string>& symbol_names);

}  // namespace adatape
