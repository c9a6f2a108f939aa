#include "adatape/nn/feed_forward.h"

#include "adatape/core/check.h"

namespace adatape {

Gelu parse_gelu(const std::string& name) {
  ADATAPE_CHECK(name == "tanh" || name == "exact", "gelu", "expected \"tanh\" or \"exact\", got \"", name, "\"");
  return name == "tanh" ? Gelu::kTanh : Gelu::kExact;
}

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

torch::Tensor Mlp::forward(const torch::Tensor& x) const {
  return contract->forward(at::gelu(expand->forward(x), gelu == Gelu::kTanh ? "tanh" : "none"));
}

GluMlp::GluMlp(int64_t dim, int64_t width) {
  expand = register_module("expand", std::make_shared<Linear>(dim, 2 * width));
  contract = register_module("contract", std::make_shared<Linear>(width, dim));
}

void GluMlp::initialize(at::Generator& generator) { initialize_pair(*expand, *contract, generator); }

torch::Tensor GluMlp::forward(const torch::Tensor& x) const { return contract->forward(at::glu(expand->forward(x), -1)); }

}  // namespace adatape
