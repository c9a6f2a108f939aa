// The arithmetic of halting, one place for each rule. (AdaTape's is part of its reading: ops/tape_read/tape_read.h.)
#pragma once

#include <torch/types.h>

namespace adatape {

// One step of adaptive computation time (arXiv 1603.08983): as the Universal Transformer (1807.03819) and A-ViT (2112.07658) take it.
struct ActStep {
  torch::Tensor weight;  // [units] of this step: the remainder 1 - h where a unit halts, else p (differentiable)
  torch::Tensor halts;   // bool [units]
};

// p, cumulative h [units] (h before this step). A unit halts when h + p > 1 - epsilon; at the last allowed step all halt, so weights sum
// to 1.
ActStep act_step(const torch::Tensor& p, const torch::Tensor& h, double epsilon, bool last);

// A-ViT's halting probability of each token, read from the first feature of its state after a block: sigmoid(scale * x[0] - center).
// x [tokens, D] -> [tokens]. Differentiable. Source: arXiv 2112.07658, equation 2.
torch::Tensor gate_probability(const torch::Tensor& x, double scale, double center);

// Logarithm of a normal(mean, deviation) at the blocks 0 .. blocks - 1, normalised to sum to 1: [blocks] in `options`' dtype and device.
torch::Tensor log_depth_prior(int64_t blocks, double mean, double deviation, const torch::TensorOptions& options);

// KL(distribution || prior), a scalar; 0 log 0 = 0, gradients are finite there. distribution, log_prior [blocks]. Differentiable in the
// distribution. Source: arXiv 2112.07658, equation 10, with the prior normalised.
torch::Tensor depth_distribution_loss(const torch::Tensor& distribution, const torch::Tensor& log_prior);

}  // namespace adatape
