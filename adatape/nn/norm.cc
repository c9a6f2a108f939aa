#include "adatape/nn/norm.h"

#include "adatape/core/check.h"
#include "adatape/nn/linear.h"

namespace adatape {

Norm::Norm(NormKind kind_, int64_t dim, double epsilon_, bool with_bias) : kind(kind_), epsilon(epsilon_) {
  ADATAPE_CHECK(kind == NormKind::kLayer || !with_bias, "norm", "expected no bias with RMSNorm, got one");
  weight = register_parameter("weight", torch::ones({dim}));
  if (with_bias) bias = register_parameter("bias", torch::zeros({dim}));
}

torch::Tensor Norm::forward(const torch::Tensor& x) const {
  if (kind == NormKind::kRms) return x * (x.square().mean(-1, /*keepdim=*/true) + epsilon).rsqrt() * weight;
  return layer_norm(x, weight, bias, epsilon);
}

}  // namespace adatape
