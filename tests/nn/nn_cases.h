// Random tensors, layouts and error texts for the tests of layers.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/nn/initialize.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape::testing {

inline torch::Tensor random_tensor(std::vector<int64_t> shape, uint64_t seed, torch::Dtype dtype = torch::kFloat32) {
  at::Generator generator = parameter_generator(seed, 99);
  return torch::empty(shape).normal_(0, 1, generator).to(dtype);
}

inline std::shared_ptr<const PackLayout> layout_of(std::vector<int64_t> lengths, std::vector<TokenKind> kinds = {}) {
  return std::make_shared<const PackLayout>(std::move(lengths), std::move(kinds), torch::kCPU);
}

inline PackedTokens random_pack(std::vector<int64_t> lengths, int64_t dim, uint64_t seed, std::vector<TokenKind> kinds = {}) {
  auto layout = layout_of(std::move(lengths), std::move(kinds));
  return {random_tensor({layout->total(), dim}, seed), layout};
}

inline torch::Tensor rows_of_example(const torch::Tensor& values, const PackLayout& layout, int64_t example) {
  return values.slice(0, layout.offsets()[example], layout.offsets()[example + 1]);
}

inline double largest_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return a.sizes() != b.sizes() ? INFINITY : a.numel() == 0 ? 0 : (a - b).abs().max().item<double>();
}

inline void perturb(const Module& module, uint64_t seed, double deviation = 0.2) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, 0);
  for (const NamedParameter& parameter : module.named_parameters()) {
    torch::Tensor noise = torch::zeros_like(parameter.tensor);
    normal(noise, deviation, generator);
    parameter.tensor.data().add_(noise);
  }
}

// Checks d f / d inputs (float64) against central differences, f summed with fixed random weights.
inline void expect_gradients(const std::function<torch::Tensor(const std::vector<torch::Tensor>&)>& f, std::vector<torch::Tensor> inputs) {
  for (torch::Tensor& input : inputs) input = input.detach().to(torch::kFloat64).clone().requires_grad_(true);
  const torch::Tensor first = f(inputs);
  const torch::Tensor weights = random_tensor(first.sizes().vec(), 4, torch::kFloat64);
  (first * weights).sum().backward();
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < inputs.size(); ++i) {
    torch::Tensor flat = inputs[i].data().view({-1});
    ASSERT_TRUE(inputs[i].grad().defined()) << "input " << i;
    const torch::Tensor gradient = inputs[i].grad().reshape({-1});
    for (int64_t k = 0; k < flat.numel(); ++k) {
      const double old = flat[k].item<double>(), step = 1e-5;
      flat[k] = old + step;
      const double above = (f(inputs) * weights).sum().item<double>();
      flat[k] = old - step;
      const double below = (f(inputs) * weights).sum().item<double>();
      flat[k] = old;
      EXPECT_NEAR(gradient[k].item<double>(), (above - below) / (2 * step), 1e-6) << "input " << i << " element " << k;
    }
  }
}

}  // namespace adatape::testing
