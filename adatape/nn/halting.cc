#include "adatape/nn/halting.h"

#include <cmath>
#include <limits>

#include "adatape/core/check.h"

namespace adatape {
namespace {

torch::Tensor all_halt(const torch::Tensor& like) { return torch::ones_like(like, like.options().dtype(torch::kBool)); }

}  // namespace

ActStep act_step(const torch::Tensor& p, const torch::Tensor& h, double epsilon, bool last, HaltsAt bound) {
  ActStep step;
  const torch::Tensor sum = (h + p).detach();
  step.halts = last ? all_halt(p) : bound == HaltsAt::kAbove ? sum > 1.0 - epsilon : sum >= 1.0 - epsilon;
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

PonderStep ponder_step(const torch::Tensor& lambda, const torch::Tensor& left, double threshold, bool last) {
  PonderStep step;
  step.left = left * (1.0 - lambda);
  step.halts = last ? all_halt(lambda) : 1.0 - step.left.detach() > threshold;
  step.weight = torch::where(step.halts, left, lambda * left);
  return step;
}

Truncation parse_truncation(const std::string& name) {
  ADATAPE_CHECK(name == "renormalised" || name == "rest_on_last", "halting", "expected renormalised or rest_on_last, got \"", name, '"');
  return name == "renormalised" ? Truncation::kRenormalised : Truncation::kRestOnLast;
}

torch::Tensor log_truncated_geometric(double lambda, int64_t last, Truncation truncation) {
  ADATAPE_CHECK(lambda > 0 && lambda < 1 && last >= 1, "halting", "expected lambda in (0, 1) and a last step >= 1, got ", lambda, " and ",
                last);
  const double log_going_on = std::log1p(-lambda);
  torch::Tensor logs = torch::arange(last, torch::kFloat64) * log_going_on + std::log(lambda);
  if (truncation == Truncation::kRestOnLast) {
    logs[last - 1] = static_cast<double>(last - 1) * log_going_on;
    return logs;
  }
  return logs - std::log(-std::expm1(static_cast<double>(last) * log_going_on));
}

torch::Tensor divergence_from_geometric(const torch::Tensor& p, const torch::Tensor& steps, double lambda, Truncation truncation) {
  const int64_t longest = p.size(1);
  // Row n - 1: the prior of an example whose last step is n, 0 behind it (p is 0 there too).
  torch::Tensor priors = torch::zeros({longest, longest}, torch::kFloat64);
  for (int64_t last = 1; last <= longest; ++last)
    priors[last - 1].narrow(0, 0, last).copy_(log_truncated_geometric(lambda, last, truncation));
  const torch::Tensor log_prior = priors.to(p.device(), p.scalar_type()).index_select(0, steps - 1);
  return (p * (p.clamp_min(1e-30).log() - log_prior)).sum(1);
}

}  // namespace adatape
