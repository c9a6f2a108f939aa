#include "adatape/nn/dropout.h"

#include "adatape/core/rng.h"
#include "adatape/nn/padded.h"

namespace adatape {

torch::Tensor dropout(const torch::Tensor& values, const PackLayout& layout, double rate, const ForwardContext& context, uint32_t index) {
  if (!context.training || rate <= 0 || layout.total() == 0) return values;
  const int64_t dim = values.size(1);
  // [B, longest * dim]: a token's draws depend on its example and its position there.
  const torch::Tensor drawn = without_padding(
      counter_uniform(context.seed, context.step, site(Site::kDropout, index), context.examples, layout.longest() * dim).view({-1, dim}),
      layout);
  const torch::Tensor factor = (drawn >= rate).to(values.options().requires_grad(false)).mul_(1.0 / (1.0 - rate));
  return values * factor;
}

torch::Tensor stochastic_depth_factor(const PackLayout& layout, double rate, const ForwardContext& context, uint32_t index,
                                      const torch::Tensor& like) {
  if (!context.training || rate <= 0) return {};
  const torch::Tensor drawn = counter_uniform(context.seed, context.step, site(Site::kStochasticDepth, index), context.examples, 1);
  const torch::Tensor factor = (drawn >= rate).to(like.options().requires_grad(false)).mul_(1.0 / (1.0 - rate));  // [B, 1]
  return factor.index_select(0, layout.example_of_token());
}

}  // namespace adatape
