// The norms of text models: LayerNorm with or without a bias, and RMSNorm. (Encoders of the library use LayerNorm of nn/linear.h.)
#pragma once

#include <string>

#include "adatape/nn/module.h"

namespace adatape {

enum class NormKind { kLayer, kRms };

// [rows, dim] -> the same. kLayer: (x - mean) / sqrt(variance + epsilon) x weight (+ bias); kRms (arXiv 1910.07467): x / sqrt(mean of x^2 +
// epsilon) x weight, never a bias. Differentiable.
struct Norm : Module {
  Norm(NormKind kind, int64_t dim, double epsilon, bool with_bias);
  torch::Tensor forward(const torch::Tensor& x) const;

  NormKind kind;
  double epsilon;
  torch::Tensor weight, bias;  // [dim]; bias undefined without
};

}  // namespace adatape
