// adatape::tape_read against its reference and against the same formula in plain ATen calls, as one would write it in a model. The three
// take turns within a run, after their answers were compared; the counters are medians in ms, and how many times slower each alternative
// is.
//   build/release/adatape_benchmarks --benchmark_filter=tape_read
// Where a CUDA device answers: its kernels against the plain calls there, and against the time it takes to read the bank once.
#include <benchmark/benchmark.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "adatape/core/device.h"
#include "adatape/core/memory.h"
#include "adatape/ops/tape_read/tape_read_kernels.h"
#include "benchmarks/ops/plain_tape_read.h"
#include "benchmarks/side_by_side.h"

namespace adatape::ops {
namespace {

struct Size : PlainReading {
  const char* name;
  const char* row_suffix;
  double goal;
  bool keep = false;  // freed memory, as the program does: plain calls then clear no pages for their large tensors
};

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
    if (!((got[i] - expected[i]).abs().max().item<double>() <= 1e-4 * size)) return false;
  }
  return true;
}

void tape_read_benchmark(benchmark::State& state, const Size& size, bool backward) {
  if (size.keep) keep_freed_memory();
  const Inputs inputs = make_inputs(size);
  const auto ours = [&] { return run(read_by_op, inputs, size, backward); };
  const auto plain = [&] { return run(read_by_plain_calls, inputs, size, backward); };
  const auto reference = [&] { return run_reference(inputs, size, backward); };
  const std::vector<at::Tensor> expected = reference();
  if (!agree(ours(), expected) || !agree(plain(), expected)) {
    state.SkipWithError("the answers differ");
    return;
  }
  const std::string row = backward ? "tape_read_backward" : "tape_read_forward";  // backward: of both together
  time_side_by_side(state, ours, {{"plain", plain, row + size.row_suffix, size.goal}, {"reference", reference}});
  state.counters["tape_length"] = expected[1].to(at::kFloat).mean().item<double>();
}

// On the GPU: many calls between two waits, each on another of several banks, which its cache does not hold together.
constexpr int64_t kCalls = 20, kBanks = 4;

Inputs moved(const Inputs& in, at::ScalarType type) {
  auto move = [&](const at::Tensor& tensor) { return tensor.to(at::kCUDA, type); };
  return {move(in.query), move(in.bank), in.offsets.to(at::kCUDA), move(in.weight), move(in.bias)};
}

// Results in low precision may err twice as much as plain calls in that precision, both against plain calls in float64. A near tie may be
// read the other way round, so norms over all numbers count.
bool as_near_as_plain_calls(const Inputs& low, const Size& size, bool backward) {
  const auto wide = [](const at::Tensor& tensor) { return tensor.to(at::kDouble); };
  const Inputs exact{wide(low.query), wide(low.bank), low.offsets, wide(low.weight), wide(low.bias)};
  const std::vector<at::Tensor> expected = run(read_by_plain_calls, exact, size, backward),
                                plain = run(read_by_plain_calls, low, size, backward), got = run(read_by_op, low, size, backward);
  for (size_t i = 0; i < got.size(); ++i) {
    const auto error = [&](const at::Tensor& tensor) { return (wide(tensor) - wide(expected[i])).norm().item<double>(); };
    if (!(error(got[i]) <= 2 * error(plain[i]) + 1e-6 * wide(expected[i]).norm().item<double>())) return false;
  }
  return true;
}

void tape_read_cuda_benchmark(benchmark::State& state, const Size& size, at::ScalarType type, bool backward) {
  std::vector<Inputs> banks;
  for (int64_t i = 0; i < kBanks; ++i) {
    banks.push_back(moved(make_inputs(size), type));
    if (i > 0) banks.back().bank = banks.back().bank.roll(i, 0);
  }
  if (tape_read_kernel_name(banks[0].bank.device(), type) != "cuda") {
    state.SkipWithError("the CUDA kernel does not serve this");
    return;
  }
  // Answers in float, where plain calls compute as exactly as ours do.
  const Inputs exact = moved(make_inputs(size), at::kFloat);
  if (!agree(run(read_by_op, exact, size, backward), run(read_by_plain_calls, exact, size, backward)) ||
      (type != at::kFloat && !as_near_as_plain_calls(banks[0], size, backward))) {
    state.SkipWithError("the answers differ");
    return;
  }
  const at::AutoGradMode mode(backward);
  const auto many = [&](const Reader& reader) {
    return many_on_device(at::Device(at::kCUDA, 0), kCalls, [&, reader](int64_t i) {
      if (backward) {
        run(reader, banks[i % kBanks], size, true);
      } else {
        reader(banks[i % kBanks], size);
      }
    });
  };
  const auto read_once =
      many_on_device(at::Device(at::kCUDA, 0), kCalls, [&](int64_t i) { benchmark::DoNotOptimize(banks[i % kBanks].bank.sum()); });
  const std::string row =
      std::string(backward ? "tape_read_backward" : "tape_read_forward") + "_cuda_" + (type == at::kFloat ? "fp32" : "bf16");
  std::vector<Rival> rivals{{"plain", many(read_by_plain_calls), row, size.goal}};
  if (!backward) rivals.push_back({"read_once", read_once, row + "_bandwidth", 0.5});
  time_side_by_side(state, many(read_by_op), rivals, {.wall = true, .calls = kCalls});
  const double bytes = static_cast<double>(banks[0].bank.nbytes());
  state.counters["bank_bytes_per_second"] = bytes / (state.counters["median_ms"] / 1e3);
  if (!backward) state.counters["read_once_bytes_per_second"] = bytes / (state.counters["read_once_ms"] / 1e3);
}

void register_cuda() {
  if (!parse_device("auto").is_cuda()) return;
  const Size size{{32, 784, 768, 64, 10, 5, 2}, "imagenet_cuda", "", 20};
  for (bool backward : {false, true}) {
    for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const std::string name =
          std::string("tape_read/") + (backward ? "forward_backward/" : "forward/") + size.name + (type == at::kFloat ? "_fp32" : "_bf16");
      benchmark::RegisterBenchmark(
          name.c_str(), [size, type, backward](benchmark::State& state) { tape_read_cuda_benchmark(state, size, type, backward); })
          ->UseManualTime()
          ->Iterations(15)
          ->Unit(benchmark::kMillisecond);
    }
  }
}

const bool kRegistered = [] {
  for (const Size& size : {Size{{32, 784, 768, 64, 10, 5, 2}, "imagenet", "", 10}, Size{{256, 32, 32, 2, 16, 2, 8}, "parity", "_parity", 1},
                           Size{{32, 784, 768, 64, 10, 5, 2}, "imagenet_memory_kept", "_memory_kept", 1, true}}) {
    for (bool backward : {false, true}) {
      const std::string name = std::string("tape_read/") + (backward ? "forward_backward/" : "forward/") + size.name;
      benchmark::RegisterBenchmark(name.c_str(), [size, backward](benchmark::State& state) { tape_read_benchmark(state, size, backward); })
          ->UseManualTime()
          ->Iterations(15)
          ->Unit(benchmark::kMillisecond);
    }
  }
  register_cuda();
  return true;
}();

}  // namespace
}  // namespace adatape::ops
