#include "adatape/analysis/covariate_means.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace adatape {

std::vector<CovariateMean> mean_by_covariate(const std::vector<double>& values, const std::vector<double>& covariates) {
  struct Sums {
    int64_t count = 0;
    double sum = 0, squares = 0;
  };
  std::map<double, Sums> sums;
  for (size_t i = 0; i < values.size(); ++i) {
    Sums& group = sums[covariates[i]];
    ++group.count;
    group.sum += values[i];
    group.squares += values[i] * values[i];
  }
  std::vector<CovariateMean> groups;
  for (const auto& [covariate, group] : sums) {
    const auto count = static_cast<double>(group.count);
    const double mean = group.sum / count;
    groups.push_back({covariate, group.count, mean, std::sqrt(std::max(0.0, group.squares / count - mean * mean))});
  }
  return groups;
}

}  // namespace adatape
