// Many systems on many tasks, each against its own goal: the page and the results of `adatape compare --family`.
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/comparison.h"

namespace adatape {

// What a run is judged by; more is better.
struct RunValue {
  double value = 0;
  std::string measure;  // "test accuracy"; "n-gram's bits / own bits" where the task sets a rival's loss beside the run's
};
RunValue run_value(const FinishedRun& run);

// read_comparison (comparison.h), its models named as `make family` names its runs: "graphs_transformer" is the label "transformer" with
// the folder of the configuration in front, unless the label begins with that. The recorded command says the folder; a label that the
// command sets, and one whose configuration has no folder, stays as it is. Where two models would have one name both keep their own.
Comparison read_family(const std::vector<std::string>& folders, const std::string& command);

// A row of benchmarks.json about what halting saves.
struct BenchmarkResult {
  std::string name, rival;
  double ours_ms = 0, rival_ms = 0, ratio = 0, goal = 0, flops_saved = 0;
  double time_saved() const { return 1 - ours_ms / rival_ms; }  // a share of the full depth, as flops_saved is; ratio is of the two
};
// The rows whose names begin with halting_saved or recurrent_halting. Error that names the file and what came where it is not what the
// benchmarks write.
std::vector<BenchmarkResult> read_benchmarks(const std::string& path);

// measured_results_json (comparison.h); each row has "name" (its model's), "value", "measure", "goal" (null: none) and "published" too, and
// "time_saved" holds the benchmarks.
nlohmann::ordered_json family_results_json(const Comparison& comparison, const std::vector<BenchmarkResult>& benchmarks);

// The same for a terminal: a line a model, tasks together.
std::string family_text(const Comparison& comparison);

// The page of a comparison whose models have been measured: one table of all, then each task with accuracy and computation against
// difficulty, then time saved against FLOPs saved.
std::string family_html(const Comparison& comparison, const std::vector<BenchmarkResult>& benchmarks);

void write_family(const Comparison& comparison, const std::vector<BenchmarkResult>& benchmarks, const std::string& folder);

}  // namespace adatape
