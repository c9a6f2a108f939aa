// Attention of one query an example, as behind a last block that only the class token reads (with gradients) and in generation (without),
// against at::scaled_dot_product_attention on dense tensors of equal lengths. `projected`: with the projections of keys and values, which
// ops::one_query_attention moves to the query; "made" makes them by this library's product and attention.
//   build/release/adatape_benchmarks --benchmark_filter=one_query
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "adatape/nn/linear.h"
#include "adatape/ops/one_query_attention/one_query_attention.h"
#include "adatape/ops/packed_attention/packed_attention.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

void one_query(benchmark::State& state) {
  at::manual_seed(0);
  const int64_t batch = state.range(0), keys = state.range(1), heads = state.range(2), width = state.range(3);
  const bool training = state.range(4) != 0;
  const at::Tensor query = at::randn({batch, heads, width}).requires_grad_(training),
                   pair = at::randn({batch * keys, 2, heads, width}).requires_grad_(training), grad = at::randn({batch, heads, width});
  const at::Tensor query_offsets = at::arange(batch + 1), key_offsets = at::arange(batch + 1) * keys;
  const double scale = 1 / std::sqrt(static_cast<double>(width));
  const auto with_gradients = [&](const at::Tensor& out) {
    return training ? torch::autograd::grad({out}, {query, pair}, {grad}) : std::vector<at::Tensor>{out};
  };
  const auto ours = [&] {
    const std::vector<at::Tensor> halves = pair.unbind(1);
    return with_gradients(std::get<0>(ops::packed_attention(query, halves[0], halves[1], query_offsets, key_offsets, {false, scale})));
  };
  const auto plain = [&] {
    const std::vector<at::Tensor> halves = pair.view({batch, keys, 2, heads, width}).unbind(2);
    return with_gradients(at::scaled_dot_product_attention(query.unsqueeze(2), halves[0].transpose(1, 2), halves[1].transpose(1, 2),
                                                           std::nullopt, 0.0, false, scale)
                              .squeeze(2));
  };
  at::AutoGradMode mode(training);
  const std::vector<at::Tensor> got = ours(), expected = plain();
  for (size_t i = 0; i < got.size(); ++i) {
    if (!((got[i] - expected[i]).abs().max().item<double>() <= 1e-5 * (1 + expected[i].abs().max().item<double>()))) {
      state.SkipWithError("the answers differ");
      return;
    }
  }
  const std::string row = std::string("one_query_") + (training ? "training_" : "forward_") + std::to_string(keys) + "_keys";
  time_side_by_side(state, [&] { ours(); }, {{.name = "plain", .call = [&] { plain(); }, .row = row, .goal = 1}});
}

BENCHMARK(one_query)
    ->Args({256, 17, 4, 8, 1})
    ->Args({64, 65, 6, 32, 1})
    ->Args({8, 512, 12, 64, 0})
    ->Args({1, 1024, 12, 64, 0})
    ->UseManualTime()
    ->Iterations(51)
    ->Unit(benchmark::kMillisecond);

void one_query_projected(benchmark::State& state) {
  at::manual_seed(0);
  const int64_t batch = state.range(0), keys = state.range(1), heads = state.range(2), dim = state.range(3), width = heads * dim;
  const at::Tensor query = at::randn({batch, width}).requires_grad_(), x = at::randn({batch * keys, width}).requires_grad_(),
                   weight = (at::randn({2 * width, width}) / std::sqrt(static_cast<double>(width))).requires_grad_(),
                   bias = at::randn({2 * width}).requires_grad_(), grad = at::randn({batch, width});
  const at::Tensor query_offsets = at::arange(batch + 1), key_offsets = at::arange(batch + 1) * keys;
  std::vector<int64_t> offsets;
  for (int64_t b = 0; b <= batch; ++b) offsets.push_back(b * keys);
  const double scale = 1 / std::sqrt(static_cast<double>(dim));
  const auto with_gradients = [&](const at::Tensor& out) { return torch::autograd::grad({out}, {query, x, weight, bias}, {grad}); };
  const auto ours = [&] {
    const std::vector<at::Tensor> weights = weight.split(width), biases = bias.split(width);
    return with_gradients(ops::one_query_attention(query, x, {weights[0], weights[1], biases[1]}, offsets, heads, scale));
  };
  const auto made = [&] {
    const std::vector<at::Tensor> halves = linear(x, weight, bias).view({-1, 2, heads, dim}).unbind(1);
    return with_gradients(
        std::get<0>(ops::packed_attention(query.view({-1, heads, dim}), halves[0], halves[1], query_offsets, key_offsets, {false, scale}))
            .flatten(1));
  };
  const auto plain = [&] {
    const std::vector<at::Tensor> halves = at::linear(x, weight, bias).view({batch, keys, 2, heads, dim}).unbind(2);
    return with_gradients(at::scaled_dot_product_attention(query.view({batch, heads, 1, dim}), halves[0].transpose(1, 2),
                                                           halves[1].transpose(1, 2), std::nullopt, 0.0, false, scale)
                              .reshape({batch, width}));
  };
  const std::vector<at::Tensor> got = ours(), expected = plain();
  for (size_t i = 0; i < got.size(); ++i) {
    if (!((got[i] - expected[i]).abs().max().item<double>() <= 1e-4 * (1 + expected[i].abs().max().item<double>()))) {
      state.SkipWithError("the answers differ");
      return;
    }
  }
  const std::string row = "one_query_projected_" + std::to_string(keys) + "_keys";
  time_side_by_side(state, [&] { ours(); },
                    {{.name = "plain", .call = [&] { plain(); }, .row = row, .goal = 1},
                     {.name = "made", .call = [&] { made(); }, .row = row + "_made", .goal = 1}});
}

BENCHMARK(one_query_projected)
    ->Args({256, 17, 4, 8})
    ->Args({128, 65, 4, 24})
    ->Args({32, 197, 6, 64})
    ->UseManualTime()
    ->Iterations(51)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
