#include "adatape/nn/halting.h"

namespace adatape {

ActStep act_step(const torch::Tensor& p, const torch::Tensor& h, double epsilon, bool last) {
  ActStep step;
  step.halts = last ? torch::ones_like(p, p.options().dtype(torch::kBool)) : (h + p).detach() > 1.0 - epsilon;
  step.weight = torch::where(step.halts, 1.0 - h, p);
  return step;
}

}  // namespace adatape
