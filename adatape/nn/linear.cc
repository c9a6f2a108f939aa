#include "adatape/nn/linear.h"

#include <atomic>

namespace adatape {
namespace {
std::atomic<int64_t> flops_done{0};
}

int64_t matrix_product_flops() { return flops_done.load(std::memory_order_relaxed); }
void add_matrix_product_flops(int64_t flops) { flops_done.fetch_add(flops, std::memory_order_relaxed); }

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  add_matrix_product_flops(2 * x.numel() / x.size(-1) * weight.numel());
  return at::linear(x, weight, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt);
}

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  weight = register_parameter("weight", torch::zeros({out, in}));
  if (with_bias) bias = register_parameter("bias", torch::zeros({out}));
}

LayerNorm::LayerNorm(int64_t dim, double epsilon_) : epsilon(epsilon_) {
  weight = register_parameter("weight", torch::ones({dim}));
  bias = register_parameter("bias", torch::zeros({dim}));
}

torch::Tensor LayerNorm::forward(const torch::Tensor& x) const { return at::layer_norm(x, {weight.size(0)}, weight, bias, epsilon); }

}  // namespace adatape
