#include "adatape/nn/linear.h"

#include <atomic>
#include <mutex>

#include "adatape/ops/dense_linear/dense_linear.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/layer_norm/layer_norm.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {
std::atomic<int64_t> flops_done{0};
std::atomic<bool> rows_counted{false};
std::mutex rows_mutex;
std::map<ProductShape, int64_t> rows_done;

void count_product(int64_t rows, const ProductShape& shape) {
  add_matrix_product_flops(2 * rows * shape.in * shape.out);
  if (!rows_counted.load(std::memory_order_relaxed)) return;
  const std::lock_guard<std::mutex> lock(rows_mutex);
  if (rows > 0) rows_done[shape] += rows;
}
}  // namespace

int64_t matrix_product_flops() { return flops_done.load(std::memory_order_relaxed); }
void add_matrix_product_flops(int64_t flops) { flops_done.fetch_add(flops, std::memory_order_relaxed); }

void count_products(int64_t rows, const RowCost& cost) {
  for (const ProductShape& shape : cost.products) {
    if (shape.in > 0) count_product(rows, shape);
  }
}

ProductRowCounter::ProductRowCounter() {
  const std::lock_guard<std::mutex> lock(rows_mutex);
  rows_done.clear();
  rows_counted = true;
}

ProductRowCounter::~ProductRowCounter() { rows_counted = false; }

std::map<ProductShape, int64_t> ProductRowCounter::rows() const {
  const std::lock_guard<std::mutex> lock(rows_mutex);
  return rows_done;
}

torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) {
  count_product(x.numel() / x.size(-1), {weight.size(1), weight.size(0)});
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
  count_product(x.size(0), {weight.size(1), weight.size(0)});
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
