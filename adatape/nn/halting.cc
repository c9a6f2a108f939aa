#include "adatape/nn/halting.h"

#include <limits>

namespace adatape {

ActStep act_step(const torch::Tensor& p, const torch::Tensor& h, double epsilon, bool last) {
  ActStep step;
  step.halts = last ? torch::ones_like(p, p.options().dtype(torch::kBool)) : (h + p).detach() > 1.0 - epsilon;
  step.weight = torch::where(step.halts, 1.0 - h, p);
  return step;
}

torch::Tensor gate_probability(const torch::Tensor& x, double scale, double center) {
  return torch::sigmoid(x.select(1, 0) * scale - center);
}

torch::Tensor log_depth_prior(int64_t blocks, double mean, double deviation, const torch::TensorOptions& options) {
  const torch::Tensor distance = (torch::arange(blocks, options.dtype(torch::kFloat64)) - mean) / deviation;
  return torch::log_softmax(-0.5 * distance.square(), 0).to(options);
}

torch::Tensor depth_distribution_loss(const torch::Tensor& distribution, const torch::Tensor& log_prior) {
  // Far from the gate a weight is as good as 0 or is 0: its logarithm stops at the smallest normal number.
  const torch::Tensor log_distribution = distribution.clamp_min(std::numeric_limits<float>::min()).log();
  return (distribution * (log_distribution - log_prior)).sum();
}

}  // namespace adatape
