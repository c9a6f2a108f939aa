// The products of inference on packed weights against at::linear, at S/16's sizes; and against what the processor makes of fused
// multiply-adds that touch no memory (counter peak_ratio: the share of that).
//   build/release/adatape_benchmarks --benchmark_filter=packed_linear
#include "adatape/core/memory.h"
#include "adatape/ops/cpu_simd.h"
#include "adatape/ops/packed_linear/packed_linear.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int kSums = 12;  // enough of them to hide how long each takes

template <int kLanes>
ADATAPE_ALWAYS_INLINE float multiply_add(int64_t steps) {
  using F = typename ops::cpu::Simd<kLanes>::Floats;
  F sums[kSums], factor = F{} + 0.5f;
  for (int i = 0; i < kSums; ++i) sums[i] = F{} + static_cast<float>(i);  // equal ones would be made once for all
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (F& sum : sums) sum = sum * factor + factor;
  }
  for (const F& sum : sums) factor += sum;
  return factor[0];
}
ADATAPE_CPU_CLONES float multiply_add_narrow(int64_t steps) { return multiply_add<8>(steps); }
ADATAPE_CPU_AVX512 float multiply_add_wide(int64_t steps) { return multiply_add<16>(steps); }

void packed_linear(benchmark::State& state) {
  keep_freed_memory();
  const at::NoGradGuard no_grad;
  at::manual_seed(0);
  const int64_t rows = 1576, in = state.range(0), out = state.range(1);
  const at::Tensor x = at::randn({rows, in}), weight = at::randn({out, in}), bias = at::randn({out});
  const ops::PackedWeight packed = ops::pack_weight(weight, bias, at::kFloat);
  if (!(relative_difference(ops::packed_linear(x, packed), at::linear(x, weight, bias)) <= 1e-5)) {
    state.SkipWithError("the answers differ");
    return;
  }
  const bool wide = ops::cpu::has_avx512();
  const int64_t threads = at::get_num_threads(), steps = rows * in * out / (kSums * (wide ? 16 : 8)) / threads;  // as many multiply-adds
  const auto peak = [&] {
    at::parallel_for(0, threads, 1,
                     [&](int64_t, int64_t) { benchmark::DoNotOptimize((wide ? multiply_add_wide : multiply_add_narrow)(steps)); });
  };
  const std::string row = "packed_linear_" + std::to_string(in) + "_" + std::to_string(out);
  time_side_by_side(state, [&] { ops::packed_linear(x, packed); },
                    {{"plain", [&] { at::linear(x, weight, bias); }, row, 1}, {"peak", peak}});
  state.counters["gflops_a_second"] = 2e-6 * static_cast<double>(rows * in * out) / state.counters["median_ms"];
}

BENCHMARK(packed_linear)
    ->Args({384, 1152})
    ->Args({384, 384})
    ->Args({384, 1536})
    ->Args({1536, 384})
    ->UseManualTime()
    ->Iterations(25)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
