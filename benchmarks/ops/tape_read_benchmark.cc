// adatape::tape_read against its reference and against the same formula in plain ATen calls, as one would write it in a model. The three
// take turns within a run, after their answers were compared; the counters are medians in ms, and how many times slower each alternative
// is.
//   build/release/adatape_benchmarks --benchmark_filter=tape_read
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "adatape/ops/tape_read/tape_read_kernels.h"
#include "benchmarks/side_by_side.h"

namespace adatape::ops {
namespace {

struct Size {
  const char* name;
  int64_t batch, rows, width, key_width, steps, rows_per_step;
  double threshold;
};

struct Answer {
  at::Tensor tokens, lengths, ponder;  // [B, T, D], [B], [B]
};

// Every example runs every step until all have halted; rows read are pushed down by 1e9.
Answer read_plainly(const at::Tensor& raw_query, const at::Tensor& raw_bank, const at::Tensor& weight, const at::Tensor& bias,
                    const Size& size) {
  at::Tensor query = at::layer_norm(raw_query, {size.width}, weight, bias, 1e-6).narrow(1, 0, size.key_width);
  const at::Tensor bank = at::layer_norm(raw_bank, {size.width}, weight, bias, 1e-6);
  const at::Tensor keys = bank.narrow(2, 0, size.key_width);
  at::Tensor mask = at::zeros({size.batch, size.rows}), h = at::zeros({size.batch}), lengths = at::zeros({size.batch});
  at::Tensor ponder = at::zeros({size.batch});
  std::vector<at::Tensor> tokens;
  for (int64_t t = 0; t < size.steps; ++t) {
    const at::Tensor running = (h < size.threshold - 1e-5).to(at::kFloat);
    if (running.sum().item<float>() == 0) break;
    const at::Tensor scores = at::einsum("bd,bmd->bm", {query, keys});
    const at::Tensor best = std::get<1>((scores.detach() - mask * 1e9).topk(size.rows_per_step, 1));
    const at::Tensor w = (scores.gather(1, best) / std::sqrt(static_cast<double>(size.key_width))).softmax(-1);
    const at::Tensor rows = bank.gather(1, best.unsqueeze(2).expand({-1, -1, size.width}));
    const at::Tensor token = (rows * w.unsqueeze(2)).sum(1) * running.unsqueeze(1);
    ponder = ponder + running * (1 - (w * w).sum(-1));
    h = h + w.select(1, 0).detach() * running;
    lengths = lengths + running;
    mask = mask.scatter(1, best, 1.0);
    tokens.push_back(token);
    query = (query + token.narrow(1, 0, size.key_width)) / 2;
  }
  while (static_cast<int64_t>(tokens.size()) < size.steps) tokens.push_back(at::zeros_like(tokens[0]));
  return {at::stack(tokens, 1), lengths.to(at::kLong), ponder};
}

struct Inputs {
  at::Tensor query, bank, offsets, weight, bias;
};

Inputs make_inputs(const Size& size) {
  at::manual_seed(0);
  return {at::randn({size.batch, size.width}), at::randn({size.batch * size.rows, size.width}),
          at::arange(size.batch + 1, at::kLong) * size.rows, at::ones({size.width}), at::zeros({size.width})};
}

using Reader = std::function<Answer(const Inputs&, const Size&)>;

Answer read_by_op(const Inputs& in, const Size& size) {
  const TapeReadResult result =
      tape_read(in.query, in.bank, in.offsets, in.weight, in.bias,
                {.key_width = size.key_width, .max_steps = size.steps, .rows_per_step = size.rows_per_step, .threshold = size.threshold});
  return {std::get<0>(result), std::get<3>(result), std::get<4>(result)};
}

Answer read_by_plain_calls(const Inputs& in, const Size& size) {
  return read_plainly(in.query, in.bank.view({size.batch, size.rows, size.width}), in.weight, in.bias, size);
}

// Forward alone, or forward and the gradients of sum(tokens) + mean(ponder).
std::vector<at::Tensor> run(const Reader& reader, Inputs in, const Size& size, bool backward) {
  at::AutoGradMode mode(backward);
  for (at::Tensor* input : {&in.query, &in.bank, &in.weight, &in.bias}) *input = input->detach().requires_grad_(backward);
  const Answer answer = reader(in, size);
  std::vector<at::Tensor> results{answer.tokens, answer.lengths, answer.ponder};
  if (backward) {
    const auto gradients =
        torch::autograd::grad({answer.tokens.sum() + answer.ponder.mean()}, {in.query, in.bank, in.weight, in.bias}, {}, false);
    results.insert(results.end(), gradients.begin(), gradients.end());
  }
  return results;
}

// The reference is no op of its own on the CPU: its two halves are called one after the other.
std::vector<at::Tensor> run_reference(const Inputs& in, const Size& size, bool backward) {
  const TapeReadOptions options{
      .key_width = size.key_width, .max_steps = size.steps, .rows_per_step = size.rows_per_step, .threshold = size.threshold};
  const auto [tokens, weights, indices, lengths, ponder, halting] =
      tape_read_forward_reference({in.query, in.bank, in.offsets, in.weight, in.bias, {}, {}, {}, {}, {}}, options);
  std::vector<at::Tensor> results{tokens, lengths, ponder};
  if (backward) {
    const auto [query, bank, weight, bias] =
        tape_read_backward_reference({at::ones_like(tokens), std::nullopt, at::full_like(ponder, 1.0 / static_cast<double>(size.batch)),
                                      in.query, in.bank, in.offsets, in.weight, in.bias, weights, indices, lengths, std::nullopt},
                                     {.key_width = size.key_width});
    results.insert(results.end(), {query, bank, weight, bias});
  }
  return results;
}

bool agree(const std::vector<at::Tensor>& got, const std::vector<at::Tensor>& expected) {
  for (size_t i = 0; i < got.size(); ++i) {
    const double size = std::max(1.0, expected[i].abs().max().item<double>());
    if ((got[i] - expected[i]).abs().max().item<double>() > 1e-4 * size) return false;
  }
  return true;
}

void tape_read_benchmark(benchmark::State& state, const Size& size, bool backward) {
  const Inputs inputs = make_inputs(size);
  const auto ours = [&] { return run(read_by_op, inputs, size, backward); };
  const auto plain = [&] { return run(read_by_plain_calls, inputs, size, backward); };
  const auto reference = [&] { return run_reference(inputs, size, backward); };
  const std::vector<at::Tensor> expected = reference();
  if (!agree(ours(), expected) || !agree(plain(), expected)) {
    state.SkipWithError("the answers differ");
    return;
  }
  time_side_by_side(state, ours, {{"plain", plain}, {"reference", reference}});
  state.counters["tape_length"] = expected[1].to(at::kFloat).mean().item<double>();
}

const bool kRegistered = [] {
  for (const Size& size : {Size{"imagenet", 32, 784, 768, 64, 10, 5, 2}, Size{"parity", 256, 32, 32, 2, 16, 2, 8}}) {
    for (bool backward : {false, true}) {
      const std::string name = std::string("tape_read/") + (backward ? "forward_backward/" : "forward/") + size.name;
      benchmark::RegisterBenchmark(name.c_str(), [size, backward](benchmark::State& state) { tape_read_benchmark(state, size, backward); })
          ->UseManualTime()
          ->Iterations(15)
          ->Unit(benchmark::kMillisecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace adatape::ops
