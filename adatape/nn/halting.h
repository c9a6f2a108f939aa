// The arithmetic of halting, one place for each rule. (AdaTape's is part of its reading: ops/tape_read/tape_read.h.)
#pragma once

#include <torch/types.h>

#include <string>

namespace adatape {

// One step of adaptive computation time (arXiv 1603.08983), as recurrent networks, the Universal Transformer (arXiv 1807.03819) and A-ViT
// (arXiv 2112.07658) take it.
struct ActStep {
  torch::Tensor weight;  // [units] of this step: the remainder 1 - h where a unit halts, else p (differentiable)
  torch::Tensor halts;   // bool [units]
};

// p, cumulative h [units] (h before this step). A unit halts when h + p > 1 - epsilon, or already when they are equal, as the first of these
// sources has it; at the last allowed step all halt, so weights sum to 1.
enum class HaltsAt { kAbove, kAboveOrEqual };
ActStep act_step(const torch::Tensor& p, const torch::Tensor& h, double epsilon, bool last, HaltsAt bound = HaltsAt::kAbove);

// A-ViT's halting probability of each token, read from the first feature of its state after a block: sigmoid(scale * x[0] - center).
// x [tokens, D] -> [tokens]. Differentiable. Source: arXiv 2112.07658, equation 2.
torch::Tensor gate_probability(const torch::Tensor& x, double scale, double center);

// Logarithm of a normal(mean, deviation) at the blocks 0 .. blocks - 1, normalised to sum to 1: [blocks] in `options`' dtype and device.
torch::Tensor log_depth_prior(int64_t blocks, double mean, double deviation, const torch::TensorOptions& options);

// KL(distribution || prior), a scalar; 0 log 0 = 0, gradients are finite there. distribution, log_prior [blocks]. Differentiable in the
// distribution. Source: arXiv 2112.07658, equation 10, with the prior normalised.
torch::Tensor depth_distribution_loss(const torch::Tensor& distribution, const torch::Tensor& log_prior);

// One step of PonderNet (arXiv 2107.05407).
struct PonderStep {
  torch::Tensor weight;  // [units] p_n: what is left where a unit halts, else lambda_n x what is left (differentiable)
  torch::Tensor left;    // [units] prod_{j <= n} (1 - lambda_j): the mass behind this step
  torch::Tensor halts;   // bool [units]
};

// lambda, left [units] (left before this step; 1 at the first). A unit halts when its cumulative p exceeds threshold; at the last allowed
// step all halt, so p sums to 1. threshold 1: only there.
PonderStep ponder_step(const torch::Tensor& lambda, const torch::Tensor& left, double threshold, bool last);

// How the geometric prior over 1 .. N loses what lies beyond N.
enum class Truncation {
  kRenormalised,  // divided by the mass within 1 .. N
  kRestOnLast,    // put on step N
};
Truncation parse_truncation(const std::string& name);  // "renormalised" | "rest_on_last"

// p [B, N], 0 behind an example's own last step; steps int64 [B], that step (1 .. N). Returns KL(p || prior) [B], the prior truncated at
// the example's own last step. Differentiable in p, finite at p = 0 (where p log p is 0). Cost: a few passes over p.
torch::Tensor divergence_from_geometric(const torch::Tensor& p, const torch::Tensor& steps, double lambda, Truncation truncation);

// log of that prior: [N] float64, for a last step N >= 1; lambda in (0, 1).
torch::Tensor log_truncated_geometric(double lambda, int64_t last, Truncation truncation);

}  // namespace adatape
