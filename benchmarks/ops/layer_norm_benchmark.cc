// LayerNorm's forward and three gradients against at::layer_norm and its own, at the sizes of the small models trained here and of S/16.
//   build/release/adatape_benchmarks --benchmark_filter=layer_norm
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "adatape/ops/layer_norm/layer_norm.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr double kEpsilon = 1e-6;

void layer_norm(benchmark::State& state) {
  at::manual_seed(0);
  const int64_t rows = state.range(0), dim = state.range(1);
  const at::Tensor x = at::randn({rows, dim}).requires_grad_(), weight = at::randn({dim}).requires_grad_(),
                   bias = at::randn({dim}).requires_grad_(), grad = at::randn({rows, dim});
  const auto ours = [&] { return torch::autograd::grad({ops::layer_norm(x, weight, bias, kEpsilon)}, {x, weight, bias}, {grad}); };
  const auto plain = [&] { return torch::autograd::grad({at::layer_norm(x, {dim}, weight, bias, kEpsilon)}, {x, weight, bias}, {grad}); };
  const std::vector<at::Tensor> got = ours(), expected = plain();
  for (size_t i = 0; i < got.size(); ++i) {
    if (!((got[i] - expected[i]).abs().max().item<double>() <= 1e-5 * (1 + expected[i].abs().max().item<double>()))) {
      state.SkipWithError("the gradients differ");
      return;
    }
  }
  time_side_by_side(state, [&] { ours(); },
                    {{.name = "plain", .call = [&] { plain(); }, .row = "layer_norm_training_" + std::to_string(dim), .goal = 1}});
}

BENCHMARK(layer_norm)
    ->Args({4352, 32})
    ->Args({1024, 96})
    ->Args({6304, 384})
    ->UseManualTime()
    ->Iterations(51)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
