// Position-wise networks: the MLP of a transformer block, and the GLU of AdaTape's tape tokens.
#pragma once

#include "adatape/nn/initialize.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

enum class Gelu { kTanh, kExact };         // Flax-born and GPT models use tanh, timm-born ones the exact form
Gelu parse_gelu(const std::string& name);  // "tanh" | "exact"
torch::Tensor apply_gelu(const torch::Tensor& x, Gelu form);

// Linear(D, m), GELU, Linear(m, D).
struct Mlp : Module {
  Mlp(int64_t dim, int64_t width, Gelu gelu);
  void initialize(at::Generator& generator);
  torch::Tensor forward(const torch::Tensor& x) const;  // [rows, D] -> [rows, D]
  // out[r] = x[r] + network(norm(x[r])) for the rows listed (undefined: all); where packed_path(x, expand->packed).
  void add_to_rows(const torch::Tensor& x, const torch::Tensor& rows, const LayerNorm& norm, torch::Tensor& out) const;
  RowCost cost_per_row() const { return expand->cost_per_row() + contract->cost_per_row(); }
  std::shared_ptr<Linear> expand, contract;
  Gelu gelu;
};

// Linear(D, 2 m), halves a, g: a * sigmoid(g), Linear(m, D). Source: arXiv 2301.13195 (AdaTape's tape MLP).
struct GluMlp : Module {
  GluMlp(int64_t dim, int64_t width);
  void initialize(at::Generator& generator);
  torch::Tensor forward(const torch::Tensor& x) const;
  void add_to_rows(const torch::Tensor& x, const torch::Tensor& rows, const LayerNorm& norm, torch::Tensor& out) const;  // as Mlp's
  RowCost cost_per_row() const { return expand->cost_per_row() + contract->cost_per_row(); }
  std::shared_ptr<Linear> expand, contract;

 protected:
  void pack(torch::Dtype products) override;  // its gate needs the expanding weight's halves side by side
};

}  // namespace adatape
