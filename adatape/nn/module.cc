#include "adatape/nn/module.h"

namespace adatape {

torch::Tensor Module::register_parameter(const std::string& name, const torch::Tensor& tensor) {
  own_.push_back({name, tensor.requires_grad_(true)});
  return own_.back().tensor;
}

void Module::collect(const std::string& prefix, std::vector<NamedParameter>& into) const {
  for (const NamedParameter& parameter : own_) into.push_back({prefix + parameter.name, parameter.tensor});
  for (const auto& [name, child] : children_) child->collect(prefix + name + ".", into);
}

void Module::collect(std::vector<torch::Tensor>& into) const {
  for (const NamedParameter& parameter : own_) into.push_back(parameter.tensor);
  for (const auto& [name, child] : children_) child->collect(into);
}

std::vector<torch::Tensor> Module::parameters() const {
  std::vector<torch::Tensor> parameters;
  collect(parameters);
  return parameters;
}

std::vector<NamedParameter> Module::named_parameters() const {
  std::vector<NamedParameter> parameters;
  collect("", parameters);
  return parameters;
}

void Module::to(torch::Device device) {
  for (const NamedParameter& parameter : named_parameters()) parameter.tensor.set_data(parameter.tensor.detach().to(device));
}

void Module::to(torch::Dtype dtype) {
  for (const NamedParameter& parameter : named_parameters()) parameter.tensor.set_data(parameter.tensor.detach().to(dtype));
}

void Module::unpack_weights() {
  for (const auto& [name, child] : children_) child->unpack_weights();
  unpack();
}

void Module::pack_for_inference(torch::Dtype products) {
  for (const auto& [name, child] : children_) child->pack_for_inference(products);
  pack(products);
}

}  // namespace adatape
