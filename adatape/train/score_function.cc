#include "adatape/train/score_function.h"

#include <torch/types.h>

#include "adatape/core/check.h"

namespace adatape {

at::Tensor score_function_loss(const at::Tensor& losses, const at::Tensor& log_density) {
  ADATAPE_CHECK(losses.dim() == 1 && losses.sizes() == log_density.sizes(), "score function",
                "expected a loss and a log-density for each example, got ", losses.sizes(), " and ", log_density.sizes());
  const at::Tensor centred = losses.detach() - losses.detach().mean();
  const at::Tensor advantage = centred / (centred.square().mean().sqrt() + 1e-8);
  return (advantage * log_density).mean();
}

}  // namespace adatape
