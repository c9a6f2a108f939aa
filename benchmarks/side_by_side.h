// Alternatives timed in turns within one run: medians in ms and ratios, so that a busy machine disturbs all alike. Rows of the table that
// `make bench` prints and writes are collected here.
#pragma once

#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace adatape {

// One line of the table: ours against one rival. ratio = rival_ms / ours_ms; where flops_saved says which share of the rival's FLOPs ours
// does without, ratio = share of time saved / share of FLOPs saved. goal is its lower bound.
struct BenchmarkRow {
  std::string name, rival;
  double ours_ms = 0, rival_ms = 0, goal = 0, flops_saved = 0;
  double ratio() const { return flops_saved > 0 ? (1 - ours_ms / rival_ms) / flops_saved : rival_ms / ours_ms; }
};

inline std::vector<BenchmarkRow>& benchmark_rows() {
  static std::vector<BenchmarkRow> rows;
  return rows;
}

// With several threads the clock on the wall; with one the time of the processor, which other programs on a busy machine do not stretch.
inline double now_ms() {
  if (at::get_num_threads() > 1)
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

inline double milliseconds_of(const std::function<void()>& call) {
  const double start = now_ms();
  call();
  return now_ms() - start;
}

inline double median_of(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

struct Rival {
  std::string name;
  std::function<void()> call;
  std::string row = {};    // its row in the table; empty: none
  double goal = 1;         // of the ratio
  double allowed = 1;      // factor on the rival's time, for work that ours does on top
  double flops_saved = 0;  // share of the rival's FLOPs that ours does without, where that is what the row is about
};

// Counters: median_ms of ours; NAME_ms and NAME_ratio (as BenchmarkRow has it) of each rival. Warms each up once.
inline void time_side_by_side(benchmark::State& state, const std::function<void()>& ours, const std::vector<Rival>& rivals) {
  ours();
  for (const Rival& rival : rivals) rival.call();
  std::vector<double> our_times;
  std::vector<std::vector<double>> rival_times(rivals.size());
  for (auto _ : state) {
    for (size_t i = 0; i < rivals.size(); ++i) rival_times[i].push_back(milliseconds_of(rivals[i].call) * rivals[i].allowed);
    our_times.push_back(milliseconds_of(ours));
    state.SetIterationTime(our_times.back() / 1e3);
  }
  state.counters["median_ms"] = median_of(our_times);
  for (size_t i = 0; i < rivals.size(); ++i) {
    const BenchmarkRow row{rivals[i].row,  rivals[i].name,       median_of(our_times), median_of(rival_times[i]),
                           rivals[i].goal, rivals[i].flops_saved};
    state.counters[row.rival + "_ms"] = row.rival_ms;
    state.counters[row.rival + "_ratio"] = row.ratio();
    if (!row.name.empty()) benchmark_rows().push_back(row);
  }
}

}  // namespace adatape
