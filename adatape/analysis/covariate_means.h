// Numbers of examples, or of elements of sequences, gathered by what they are set against (Task::example_covariate).
#pragma once

#include <cstdint>
#include <vector>

namespace adatape {

struct CovariateMean {
  double covariate = 0;
  int64_t count = 0;
  double mean = 0, deviation = 0;  // of the numbers; of all of them, not of a sample
};

// Ascending by covariate; values and covariates are of equal length.
std::vector<CovariateMean> mean_by_covariate(const std::vector<double>& values, const std::vector<double>& covariates);

}  // namespace adatape
