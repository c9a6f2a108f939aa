// Alternatives timed in turns within one run: medians in ms and ratios, so that a busy machine disturbs all alike. Rows of the table that
// `make bench` prints and writes are collected here.
#pragma once

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace adatape {

// One line of the table: ours against one rival, times as they were measured. ratio = factor x rival_ms / ours_ms, where the factor allows
// for work that ours does on top; where flops_saved says which share of the rival's FLOPs ours does without, ratio = share of time saved /
// share of FLOPs saved. goal is its lower bound.
struct BenchmarkRow {
  std::string name, rival;
  double ours_ms = 0, rival_ms = 0, goal = 0, flops_saved = 0, factor = 1;
  double time_saved() const { return 1 - ours_ms / rival_ms; }
  double ratio() const { return flops_saved > 0 ? time_saved() / flops_saved : factor * rival_ms / ours_ms; }
};

inline std::vector<BenchmarkRow>& benchmark_rows() {
  static std::vector<BenchmarkRow> rows;
  return rows;
}

inline double wall_ms() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// With several threads the clock on the wall; with one the time of the processor, which other programs on a busy machine do not stretch.
inline double now_ms() {
  if (at::get_num_threads() > 1) return wall_ms();
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

inline double milliseconds_of(const std::function<void()>& call) {
  const double start = now_ms();
  call();
  return now_ms() - start;
}

inline double wall_milliseconds_of(const std::function<void()>& call) {
  const double start = wall_ms();
  call();
  return wall_ms() - start;
}

inline double median_of(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// A call that a GPU goes on with after it returned: `calls` of them in a row, then a wait for the device, as the time of one. Launching is
// hidden behind the work before it. Each call gets its number, to read other memory than the one before.
inline std::function<void()> many_on_device(c10::Device device, int64_t calls, std::function<void(int64_t)> call) {
  return [=] {
    for (int64_t i = 0; i < calls; ++i) call(i);
    c10::impl::getDeviceGuardImpl(device.type())->synchronizeDevice(device.index());
  };
}

struct Rival {
  std::string name;
  std::function<void()> call;
  std::string row = {};    // its row in the table; empty: none
  double goal = 1;         // of the ratio
  double factor = 1;       // on the rival's time in the ratio, for work that ours does on top
  double flops_saved = 0;  // share of the rival's FLOPs that ours does without, where that is what the row is about
};

// How a side of a comparison is timed.
struct Timing {
  bool wall = false;  // the clock on the wall, even of one thread: a GPU works
  int64_t calls = 1;  // a timed call makes so many, and its time is that of one
};

// Counters: median_ms of ours; NAME_ms and NAME_ratio (as BenchmarkRow has it) of each rival. Warms each up once.
inline void time_side_by_side(benchmark::State& state, const std::function<void()>& ours, const std::vector<Rival>& rivals,
                              const Timing& timing = {}) {
  const auto time_of = [&](const std::function<void()>& call) {
    return (timing.wall ? wall_milliseconds_of(call) : milliseconds_of(call)) / static_cast<double>(timing.calls);
  };
  ours();
  for (const Rival& rival : rivals) rival.call();
  std::vector<double> our_times;
  std::vector<std::vector<double>> rival_times(rivals.size());
  for (auto _ : state) {
    for (size_t i = 0; i < rivals.size(); ++i) rival_times[i].push_back(time_of(rivals[i].call));
    our_times.push_back(time_of(ours));
    state.SetIterationTime(our_times.back() / 1e3);
  }
  state.counters["median_ms"] = median_of(our_times);
  for (size_t i = 0; i < rivals.size(); ++i) {
    const Rival& rival = rivals[i];
    const BenchmarkRow row{rival.row,  rival.name,        median_of(our_times), median_of(rival_times[i]),
                           rival.goal, rival.flops_saved, rival.factor};
    state.counters[row.rival + "_ms"] = row.rival_ms;
    state.counters[row.rival + "_ratio"] = row.ratio();
    if (!row.name.empty()) benchmark_rows().push_back(row);
  }
}

}  // namespace adatape
