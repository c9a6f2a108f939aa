#include "adatape/train/weight_average.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_foreach_lerp.h>

#include <algorithm>

namespace adatape {

NamedTensors begin_average(const Model& model) {
  NamedTensors average;
  for (const auto& [name, tensor] : model.named_parameters()) average[name] = tensor.detach().clone();
  return average;
}

void update_average(NamedTensors& average, const Model& model, double decay, int64_t step) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> averages, weights;
  for (const auto& [name, tensor] : model.named_parameters()) {
    averages.push_back(average.at(name));
    weights.push_back(tensor.detach());
  }
  const double kept = std::min(decay, static_cast<double>(1 + step) / static_cast<double>(10 + step));
  at::_foreach_lerp_(averages, weights, 1 - kept);
}

AveragedModel::AveragedModel(Model& model, NamedTensors& average) : model_(model), average_(average) { swap(); }

AveragedModel::~AveragedModel() { swap(); }

void AveragedModel::swap() {
  if (average_.empty()) return;
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : model_.named_parameters()) {
    at::Tensor own = tensor.detach(), &other = average_.at(name);
    const at::Tensor kept = own.clone();
    own.copy_(other);
    other.copy_(kept);
  }
}

}  // namespace adatape
