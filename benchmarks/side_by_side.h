// Alternatives timed in turns within one run: medians in ms and ratios, so that a busy machine disturbs all alike.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace adatape {

inline double milliseconds_of(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

inline double median_of(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<int64_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// Counters: median_ms of ours; NAME_ms and NAME_ratio (NAME_ms / median_ms) of each rival. Warms each up once.
inline void time_side_by_side(benchmark::State& state, const std::function<void()>& ours,
                              const std::vector<std::pair<std::string, std::function<void()>>>& rivals) {
  ours();
  for (const auto& rival : rivals) rival.second();
  std::vector<double> our_times;
  std::vector<std::vector<double>> rival_times(rivals.size());
  for (auto _ : state) {
    for (size_t i = 0; i < rivals.size(); ++i) rival_times[i].push_back(milliseconds_of(rivals[i].second));
    our_times.push_back(milliseconds_of(ours));
    state.SetIterationTime(our_times.back() / 1e3);
  }
  state.counters["median_ms"] = median_of(our_times);
  for (size_t i = 0; i < rivals.size(); ++i) {
    state.counters[rivals[i].first + "_ms"] = median_of(rival_times[i]);
    state.counters[rivals[i].first + "_ratio"] = median_of(rival_times[i]) / median_of(our_times);
  }
}

}  // namespace adatape
