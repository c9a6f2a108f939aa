#include "adatape/analysis/cost.h"

#include <algorithm>

namespace adatape {

void CostBreakdown::add(const ModelOutput& output, int64_t examples) {
  for (const WorkItem& item : output.work) {
    auto sum = std::find_if(sums_.begin(), sums_.end(), [&](const PartCost& part) { return part.part == item.part; });
    if (sum == sums_.end()) sum = sums_.insert(sums_.end(), {item.part, 0});
    double rows = 0;
    for (const int64_t row : item.rows) rows += static_cast<double>(row);
    sum->flops += rows * static_cast<double>(item.flops_per_row);
  }
  examples_ += examples;
}

std::vector<PartCost> CostBreakdown::parts() const {
  std::vector<PartCost> means = sums_;
  for (PartCost& part : means) part.flops /= static_cast<double>(std::max<int64_t>(1, examples_));
  return means;
}

double CostBreakdown::flops() const {
  double sum = 0;
  for (const PartCost& part : parts()) sum += part.flops;
  return sum;
}

}  // namespace adatape
