// GELU in its tanh form.
#pragma once

#include <torch/types.h>

namespace adatape {

// x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)), which is x (1 + tanh(..)) / 2: at::gelu(x, "tanh"), of any shape. Differentiable. On the
// CPU in float32 one pass each way from x alone; elsewhere ATen's. Source: arXiv 1606.08415.
torch::Tensor tanh_gelu(const torch::Tensor& x);

}  // namespace adatape
