#include "adatape/nn/initialize.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "adatape/core/rng.h"

namespace adatape {

at::Generator parameter_generator(uint64_t seed, uint64_t draw) {
  CounterRng rng(seed, draw, site(Site::kParameters), 0);
  const uint64_t mixed = (static_cast<uint64_t>(rng.bits()) << 32) | rng.bits();
  return at::detail::createCPUGenerator(mixed);
}

// Draws happen on the CPU, so that a device changes no bit of them.
void xavier_uniform(Linear& linear, at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const double bound = std::sqrt(6.0 / static_cast<double>(linear.weight.size(0) + linear.weight.size(1)));
  linear.weight.copy_(torch::empty(linear.weight.sizes()).uniform_(-bound, bound, generator));
  if (linear.bias.defined()) linear.bias.zero_();
}

void truncated_normal(torch::Tensor tensor, double deviation, at::Generator& generator) {
  torch::NoGradGuard no_grad;
  // Inverse CDF of a normal cut at +-2 sigma: u is uniform in (Phi(-2), Phi(2)).
  const double low = 0.5 * std::erfc(2.0 / std::sqrt(2.0)), high = 1.0 - low;
  const torch::Tensor u = torch::empty(tensor.sizes()).uniform_(2 * low - 1, 2 * high - 1, generator);
  tensor.copy_(torch::erfinv(u).mul_(std::sqrt(2.0) * deviation));
}

void lecun_normal(torch::Tensor weight, int64_t fan_in, at::Generator& generator) {
  // 0.8796 is the deviation of a unit normal cut at 2 sigma; Flax divides by it to keep the variance at 1 / fan_in.
  truncated_normal(weight, std::sqrt(1.0 / static_cast<double>(fan_in)) / 0.87962566103423978, generator);
}

void normal(torch::Tensor tensor, double deviation, at::Generator& generator) {
  torch::NoGradGuard no_grad;
  tensor.copy_(torch::empty(tensor.sizes()).normal_(0.0, deviation, generator));
}

}  // namespace adatape
