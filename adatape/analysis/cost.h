// Where a forward pass spends its FLOPs (2 x multiply-adds, tokens really used; bank and reading included).
#pragma once

#include <string>
#include <vector>

#include "adatape/models/model_output.h"

namespace adatape {

struct PartCost {
  std::string part;  // as ForwardContext::count names it: "block 1 / attention"
  double flops = 0;  // mean of an example
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
  int64_t examples_ = 0;
};

}  // namespace adatape
