// The feed-forward networks of text models: two matrices around an activation, or three where it is gated.
#pragma once

#include <string>

#include "adatape/nn/initialize.h"

namespace adatape {

enum class Activation { kRelu, kGeluTanh, kGeluExact, kGatedGelu, kSwiGlu };
Activation parse_activation(const std::string& name);  // "relu" | "gelu_tanh" | "gelu_exact" | "gated_gelu" | "swiglu"
bool is_gated(Activation activation);

// contract(f(expand(x))), or contract(f(gate(x)) * up(x)) with f = tanh-GELU (gated_gelu, arXiv 2002.05202) or SiLU (swiglu). Gate and up
// are one matrix, the gate's rows first. [rows, D] -> [rows, D]. Differentiable.
struct ActivatedMlp : Module {
  ActivatedMlp(int64_t dim, int64_t width, Activation activation, bool biases);
  // Weights N(0, deviation^2), the contraction's N(0, last_deviation^2); 0: 1 / sqrt(inputs). Biases zero.
  void initialize(at::Generator& generator, double deviation, double last_deviation);
  torch::Tensor forward(const torch::Tensor& x) const;
  RowCost cost_per_row() const { return expand->cost_per_row() + contract->cost_per_row(); }

  Activation activation;
  std::shared_ptr<Linear> expand, contract;  // [m or 2 m, D], [D, m]
};

// N(0, deviation^2), or N(0, 1 / inputs) where deviation is 0; bias zero.
void normal_linear(Linear& linear, double deviation, at::Generator& generator);

}  // namespace adatape
