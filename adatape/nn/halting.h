// The arithmetic of halting, one place for each rule. (AdaTape's is part of its reading: ops/tape_read/tape_read.h.)
#pragma once

#include <torch/types.h>

namespace adatape {

// One step of adaptive computation time as the Universal Transformer takes it (arXiv 1603.08983, 1807.03819).
struct ActStep {
  torch::Tensor weight;  // [units] of this step: the remainder 1 - h where a unit halts, else p (differentiable)
  torch::Tensor halts;   // bool [units]
};

// p, cumulative h [units] (h before this step). A unit halts when h + p > 1 - epsilon; at the last allowed step all halt, so weights sum to 1.
ActStep act_step(const torch::Tensor& p, const torch::Tensor& h, double epsilon, bool last);

}  // namespace adatape
