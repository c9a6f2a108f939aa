// Where a forward pass spends its FLOPs (2 x multiply-adds, tokens really used; bank and reading included) and its memory traffic.
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/table.h"
#include "adatape/models/model_output.h"

namespace adatape {

struct PartCost {
  std::string part;         // as ForwardContext::count names it: "block 1 / attention"
  double flops = 0;         // mean of an example
  double bytes = 0;         // what comes into the part and goes out of it as float32: mean of an example
  double weight_bytes = 0;  // its parameters as float32, read once in each forward pass: mean of a pass
};

// Adds up recorded forward passes (ForwardOptions::record).
class CostBreakdown {
 public:
  // output: of a batch of `examples`.
  void add(const ModelOutput& output, int64_t examples);
  // Parts in the order in which they first ran.
  std::vector<PartCost> parts() const;
  // Of an example, all parts: what `adatape evaluate` calls FLOPs.
  double flops() const;

 private:
  std::vector<PartCost> sums_;
  int64_t examples_ = 0, passes_ = 0;
};

// A row a part and their sum.
Table cost_table(const std::vector<PartCost>& parts);
// [{"part", "flops", "bytes", "weight_bytes"}]
nlohmann::ordered_json cost_json(const std::vector<PartCost>& parts);

}  // namespace adatape
