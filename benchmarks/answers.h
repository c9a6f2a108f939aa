// How benchmarks compare answers before they time anything.
#pragma once

#include <torch/types.h>

#include <functional>

#include "adatape/nn/initialize.h"
#include "adatape/nn/module.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {

// |got - expected| / |expected|, norms over all numbers. Where one of them is NaN so is this, and no bound lets it pass: ask for
// !(relative_difference(...) <= bound).
inline double relative_difference(const at::Tensor& got, const at::Tensor& expected) {
  return ((got - expected).norm() / expected.norm()).item<double>();
}

// What a call gives with ATen's products, norms and activations; attention and tape reading stay, they have benchmarks of their own.
inline at::Tensor in_plain_calls(const std::function<at::Tensor()>& call) {
  const ops::PlainCalls plain;
  return call();
}

// Packs the weights; whether a call then gives what plain calls gave before.
inline bool packs(Module& module, const std::function<at::Tensor()>& call) {
  const at::Tensor expected = in_plain_calls(call);
  module.pack_for_inference(torch::kFloat);
  return relative_difference(call(), expected) <= 1e-4;
}

// Classifiers start as zeros, which would hide errors.
inline void draw_classifier(const Module& module) {
  const at::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(1, 2);
  for (const NamedParameter& parameter : module.named_parameters()) {
    if (parameter.name.ends_with("classifier.weight")) parameter.tensor.normal_(0, 0.05, generator);
  }
}

}  // namespace adatape
