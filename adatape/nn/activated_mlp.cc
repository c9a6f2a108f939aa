#include "adatape/nn/activated_mlp.h"

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/nn/gelu_unit.h"

namespace adatape {

Activation parse_activation(const std::string& name) {
  if (name == "relu") return Activation::kRelu;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "gelu_exact") return Activation::kGeluExact;
  if (name == "gated_gelu") return Activation::kGatedGelu;
  ADATAPE_CHECK(name == "swiglu", "activation", "expected relu, gelu_tanh, gelu_exact, gated_gelu or swiglu, got \"", name, "\"");
  return Activation::kSwiGlu;
}

bool is_gated(Activation activation) { return activation == Activation::kGatedGelu || activation == Activation::kSwiGlu; }

ActivatedMlp::ActivatedMlp(int64_t dim, int64_t width, Activation activation_, bool biases) : activation(activation_) {
  expand = register_module("expand", std::make_shared<Linear>(dim, is_gated(activation) ? 2 * width : width, biases));
  contract = register_module("contract", std::make_shared<Linear>(width, dim, biases));
}

void normal_linear(Linear& linear, double deviation, at::Generator& generator) {
  torch::NoGradGuard no_grad;
  normal(linear.weight, deviation > 0 ? deviation : 1.0 / std::sqrt(static_cast<double>(linear.weight.size(1))), generator);
  if (linear.bias.defined()) linear.bias.zero_();
}

void ActivatedMlp::initialize(at::Generator& generator, double deviation, double last_deviation) {
  normal_linear(*expand, deviation, generator);
  normal_linear(*contract, last_deviation, generator);
}

torch::Tensor ActivatedMlp::forward(const torch::Tensor& x) const {
  const torch::Tensor wide = expand->forward(x);
  switch (activation) {
    case Activation::kRelu:
      return contract->forward(at::relu(wide));
    case Activation::kGeluTanh:
      return contract->forward(tanh_gelu(wide));
    case Activation::kGeluExact:
      return contract->forward(at::gelu(wide, "none"));
    case Activation::kGatedGelu:
    case Activation::kSwiGlu:
      break;
  }
  const std::vector<torch::Tensor> halves = wide.chunk(2, 1);
  return contract->forward((activation == Activation::kSwiGlu ? at::silu(halves[0]) : tanh_gelu(halves[0])) * halves[1]);
}

}  // namespace adatape
