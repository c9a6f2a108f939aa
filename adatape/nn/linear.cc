#include "adatape/nn/linear.h"

#include <atomic>

#include "adatape/ops/dense_linear/dense_linear.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/layer_norm/layer_norm.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {
std::atomic<int64_t> flops_done{0};
}

int64_t matrix_product_flops() { return flops_done.load(std::memory_order_relaxed); }
void add_matrix_product_flops(int64_t flops) { flops_done.fetch_add(flops, std::memory_order_relaxed); }

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  add_matrix_product_flops(2 * x.numel() / x.size(-1) * weight.numel());
  if (ops::has_dense_linear(x, weight)) return ops::dense_linear(x, weight, bias);
  if (!ops::plain_calls()) ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kMatrixProducts, "ATen"));
  return at::linear(x, weight, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt);
}

Linear::Linear(int64_t in, int64_t out, bool with_bias) {
  weight = register_parameter("weight", torch::zeros({out, in}));
  if (with_bias) bias = register_parameter("bias", torch::zeros({out}));
}

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, const ops::PackedWeight& packed) {
  if (!packed_path(x, packed)) return linear(x, weight, bias);
  add_matrix_product_flops(2 * x.size(0) * weight.numel());
  return ops::packed_linear(x.stride(1) == 1 ? x : x.contiguous(), packed);
}

void Linear::pack(torch::Dtype products) { packed = weight.is_cpu() ? ops::pack_weight(weight, bias, products) : ops::PackedWeight(); }

bool packed_path(const torch::Tensor& x, const ops::PackedWeight& weight) {
  return weight.defined() && !ops::plain_calls() && !at::GradMode::is_enabled() && x.is_cpu() && x.scalar_type() == torch::kFloat &&
         x.dim() == 2;
}

LayerNorm::LayerNorm(int64_t dim, double epsilon_) : epsilon(epsilon_) {
  weight = register_parameter("weight", torch::ones({dim}));
  bias = register_parameter("bias", torch::zeros({dim}));
}

torch::Tensor LayerNorm::forward(const torch::Tensor& x) const { return layer_norm(x, weight, bias, epsilon); }

torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double epsilon) {
  if (ops::has_layer_norm(x, weight)) return ops::layer_norm(x, weight, bias, epsilon);
  if (!ops::plain_calls()) ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kNorms, "ATen"));
  return at::layer_norm(x, {weight.size(0)}, weight, bias.defined() ? std::optional<torch::Tensor>(bias) : std::nullopt, epsilon);
}

}  // namespace adatape
