#include "adatape/nn/feed_forward.h"

#include <ATen/Parallel.h>

#include "adatape/core/check.h"
#include "adatape/nn/gated_unit.h"
#include "adatape/nn/gelu_unit.h"
#include "adatape/ops/dense_mlp/dense_mlp.h"

namespace adatape {

Gelu parse_gelu(const std::string& name) {
  ADATAPE_CHECK(name == "tanh" || name == "exact", "gelu", "expected \"tanh\" or \"exact\", got \"", name, "\"");
  return name == "tanh" ? Gelu::kTanh : Gelu::kExact;
}

torch::Tensor apply_gelu(const torch::Tensor& x, Gelu form) { return form == Gelu::kTanh ? tanh_gelu(x) : at::gelu(x); }

namespace {
void initialize_pair(Linear& expand, Linear& contract, at::Generator& generator) {
  for (Linear* layer : {&expand, &contract}) {
    xavier_uniform(*layer, generator);
    normal(layer->bias, 1e-6, generator);
  }
}
}  // namespace

Mlp::Mlp(int64_t dim, int64_t width, Gelu gelu_) : gelu(gelu_) {
  expand = register_module("expand", std::make_shared<Linear>(dim, width));
  contract = register_module("contract", std::make_shared<Linear>(width, dim));
}

void Mlp::initialize(at::Generator& generator) { initialize_pair(*expand, *contract, generator); }

namespace {
// Both layers in one pass where that pays; undefined otherwise.
torch::Tensor in_one_pass(const torch::Tensor& x, const Linear& expand, const Linear& contract, ops::MlpActivation activation) {
  const ops::MlpWeights weights{expand.weight, expand.bias, contract.weight, contract.bias};
  if (packed_path(x, expand.packed) || !ops::has_dense_mlp(x, weights)) return {};
  count_products(x.size(0), expand.cost_per_row() + contract.cost_per_row());
  return ops::dense_mlp(x, {}, weights, activation);
}
}  // namespace

torch::Tensor Mlp::forward(const torch::Tensor& x) const {
  if (gelu == Gelu::kTanh) {
    if (torch::Tensor out = in_one_pass(x, *expand, *contract, ops::MlpActivation::kTanhGelu); out.defined()) return out;
  }
  const std::string_view form = gelu == Gelu::kTanh ? "tanh" : "none";
  // Without a backward nobody needs the wide activations again: a part of the rows at a time keeps them in the cache.
  const int64_t part = 512 * at::get_num_threads();
  if (at::GradMode::is_enabled() || !x.is_cpu() || x.dim() != 2 || x.size(0) < 2 * part)
    return contract->forward(apply_gelu(expand->forward(x), gelu));
  torch::Tensor out = at::empty({x.size(0), contract->weight.size(0)}, x.options());
  for (int64_t first = 0; first < x.size(0); first += part) {
    const int64_t rows = std::min(part, x.size(0) - first);
    torch::Tensor wide = expand->forward(x.narrow(0, first, rows));
    out.narrow(0, first, rows).copy_(contract->forward(at::gelu_(wide, form)));
  }
  return out;
}

GluMlp::GluMlp(int64_t dim, int64_t width) {
  expand = register_module("expand", std::make_shared<Linear>(dim, 2 * width));
  contract = register_module("contract", std::make_shared<Linear>(width, dim));
}

void GluMlp::initialize(at::Generator& generator) { initialize_pair(*expand, *contract, generator); }

torch::Tensor GluMlp::forward(const torch::Tensor& x) const {
  if (torch::Tensor out = in_one_pass(x, *expand, *contract, ops::MlpActivation::kGated); out.defined()) return out;
  if (!packed_path(x, expand->packed)) return contract->forward(gated_unit(linear(x, expand->weight, expand->bias)));
  count_products(x.size(0), expand->cost_per_row());
  return contract->forward(ops::packed_linear(x.contiguous(), expand->packed, {}, ops::Activation::kGated));
}

void GluMlp::pack(torch::Dtype products) {
  if (expand->weight.is_cpu()) expand->packed = ops::pack_weight(expand->weight, expand->bias, products, /*gated=*/true);
}

namespace {
void add_packed(const torch::Tensor& x, const torch::Tensor& rows, const LayerNorm& norm, const Linear& expand, ops::Activation activation,
                const Linear& contract, torch::Tensor& out) {
  count_products(rows.defined() ? rows.numel() : x.size(0), expand.cost_per_row() + contract.cost_per_row());
  ops::packed_mlp(x, rows, norm.rows(), expand.packed, activation, contract.packed, out);
}
}  // namespace

void Mlp::add_to_rows(const torch::Tensor& x, const torch::Tensor& rows, const LayerNorm& norm, torch::Tensor& out) const {
  add_packed(x, rows, norm, *expand, gelu == Gelu::kTanh ? ops::Activation::kGeluTanh : ops::Activation::kGeluExact, *contract, out);
}

void GluMlp::add_to_rows(const torch::Tensor& x, const torch::Tensor& rows, const LayerNorm& norm, torch::Tensor& out) const {
  add_packed(x, rows, norm, *expand, ops::Activation::kGated, *contract, out);
}

}  // namespace adatape
