// Position-wise networks: the MLP of a transformer block, and the GLU of AdaTape's tape tokens.
#pragma once

#include "adatape/nn/initialize.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

enum class Gelu { kTanh, kExact };  // Flax-born and GPT models use tanh, timm-born ones the exact form
Gelu parse_gelu(const std::string& name);  // "tanh" | "exact"

// Linear(D, m), GELU, Linear(m, D).
struct Mlp : Module {
  Mlp(int64_t dim, int64_t width, Gelu gelu);
  void initialize(at::Generator& generator);
  torch::Tensor forward(const torch::Tensor& x) const;  // [rows, D] -> [rows, D]
  int64_t flops_per_row() const { return expand->flops_per_row() + contract->flops_per_row(); }
  std::shared_ptr<Linear> expand, contract;
  Gelu gelu;
};

// Linear(D, 2 m), halves a, g: a * sigmoid(g), Linear(m, D). Source: arXiv 2301.13195 (AdaTape's tape MLP).
struct GluMlp : Module {
  GluMlp(int64_t dim, int64_t width);
  void initialize(at::Generator& generator);
  torch::Tensor forward(const torch::Tensor& x) const;
  int64_t flops_per_row() const { return expand->flops_per_row() + contract->flops_per_row(); }
  std::shared_ptr<Linear> expand, contract;
};

}  // namespace adatape
