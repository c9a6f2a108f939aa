// A linear layer's forward and its three gradients against at::linear and its gradients, at the sizes of the small models trained here and
// of S/16.
//   build/release/adatape_benchmarks --benchmark_filter=dense_linear
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "adatape/ops/dense_linear/dense_linear.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

void dense_linear(benchmark::State& state) {
  at::manual_seed(0);
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const at::Tensor x = at::randn({rows, in}).requires_grad_(),
                   weight = (at::randn({out, in}) / std::sqrt(static_cast<double>(in))).requires_grad_(),
                   bias = at::randn({out}).requires_grad_(), grad = at::randn({rows, out});
  const auto ours = [&] { return torch::autograd::grad({ops::dense_linear(x, weight, bias)}, {x, weight, bias}, {grad}); };
  const auto plain = [&] { return torch::autograd::grad({at::linear(x, weight, bias)}, {x, weight, bias}, {grad}); };
  const std::vector<at::Tensor> got = ours(), expected = plain();
  for (size_t i = 0; i < got.size(); ++i) {
    if (!((got[i] - expected[i]).abs().max().item<double>() <= 1e-5 * expected[i].abs().max().item<double>())) {
      state.SkipWithError("the gradients differ");
      return;
    }
  }
  const std::string row = "dense_linear_" + std::to_string(in) + "_" + std::to_string(out);
  time_side_by_side(state, [&] { ours(); }, {{.name = "plain", .call = [&] { plain(); }, .row = row, .goal = 1}});
  state.counters["gflops_a_second"] = 6e-6 * static_cast<double>(rows * in * out) / state.counters["median_ms"];
}

// Where the library takes it.
const bool kRegistered = [] {
  if (!ops::has_dense_linear(at::zeros({1024, 96}), at::zeros({288, 96}))) return false;
  benchmark::RegisterBenchmark("dense_linear", dense_linear)
      ->Args({4352, 32, 96})
      ->Args({1024, 96, 288})
      ->Args({1024, 96, 192})
      ->Args({1576, 384, 1536})
      ->Args({1576, 1536, 384})
      ->UseManualTime()
      ->Iterations(25)
      ->Unit(benchmark::kMillisecond);
  return true;
}();

}  // namespace
}  // namespace adatape
