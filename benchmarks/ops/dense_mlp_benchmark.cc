// A feed-forward network in one pass each way: training against plain ATen calls, the forward alone against this library's layers apart.
//   build/release/adatape_benchmarks --benchmark_filter=dense_mlp
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "adatape/core/memory.h"
#include "adatape/nn/gated_unit.h"
#include "adatape/nn/gelu_unit.h"
#include "adatape/ops/dense_linear/dense_linear.h"
#include "adatape/ops/dense_mlp/dense_mlp.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

void dense_mlp(benchmark::State& state, bool training) {
  keep_freed_memory();  // as the program does; rivals have it too
  at::manual_seed(0);
  const int64_t rows = state.range(0), dim = state.range(1), inner = state.range(2);
  const bool gated = state.range(3) != 0;
  const auto leaf = [](at::IntArrayRef sizes, double scale) { return (at::randn(sizes) * scale).requires_grad_(); };
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  const int64_t wide = gated ? 2 * inner : inner;
  const at::Tensor x = leaf({rows, dim}, 1), grad = at::randn({rows, dim});
  const ops::MlpWeights w{leaf({wide, dim}, scale), leaf({wide}, 1), leaf({dim, inner}, scale), leaf({dim}, 1)};
  const auto ours = [&] { return ops::dense_mlp(x, {}, w, gated ? ops::MlpActivation::kGated : ops::MlpActivation::kTanhGelu); };
  const auto apart = [&] {
    const at::Tensor h = ops::dense_linear(x, w.expand, w.expand_bias);
    return ops::dense_linear(gated ? gated_unit(h) : tanh_gelu(h), w.contract, w.contract_bias);
  };
  const auto plain = [&] {
    const at::Tensor h = at::linear(x, w.expand, w.expand_bias);
    return at::linear(gated ? at::glu(h, 1) : at::gelu(h, "tanh"), w.contract, w.contract_bias);
  };
  const auto trained = [&](const auto& network) {
    return torch::autograd::grad({network()}, {x, w.expand, w.expand_bias, w.contract, w.contract_bias}, {grad});
  };
  std::vector<at::Tensor> got = trained(ours), expected = trained(plain);
  got.push_back(ours());
  expected.push_back(plain());
  for (size_t i = 0; i < got.size(); ++i) {
    if (!((got[i] - expected[i]).abs().max().item<double>() <= 1e-5 * expected[i].abs().max().item<double>())) {
      state.SkipWithError("the answers differ");
      return;
    }
  }
  const std::string size = std::to_string(dim) + "_" + std::to_string(inner) + (gated ? "_gated" : "");
  if (training) {
    time_side_by_side(state, [&] { trained(ours); },
                      {{.name = "plain", .call = [&] { trained(plain); }, .row = "dense_mlp_training_" + size, .goal = 1},
                       {.name = "apart", .call = [&] { trained(apart); }}});
  } else {
    const at::NoGradGuard guard;
    time_side_by_side(state, [&] { ours(); },
                      {{.name = "plain", .call = [&] { plain(); }},
                       {.name = "apart", .call = [&] { apart(); }, .row = "dense_mlp_forward_" + size, .goal = 1}});
  }
}

void training(benchmark::State& state) { dense_mlp(state, true); }
void forward(benchmark::State& state) { dense_mlp(state, false); }

// Where the library takes it.
void sizes(benchmark::internal::Benchmark* benchmark) {
  for (const std::vector<int64_t>& size :
       std::vector<std::vector<int64_t>>{{4096, 32, 128, 1}, {1024, 96, 192, 0}, {6272, 128, 512, 0}, {1576, 384, 1536, 0}}) {
    const ops::MlpWeights weights{at::zeros({(1 + size[3]) * size[2], size[1]}), {}, at::zeros({size[1], size[2]}), {}};
    if (ops::has_dense_mlp(at::zeros({size[0], size[1]}), weights)) benchmark->Args(size);
  }
  benchmark->UseManualTime()->Iterations(15)->Unit(benchmark::kMillisecond);
}

BENCHMARK(training)->Name("dense_mlp/training")->Apply(sizes);
BENCHMARK(forward)->Name("dense_mlp/forward")->Apply(sizes);

}  // namespace
}  // namespace adatape
