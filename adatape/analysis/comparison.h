// Everything that a report shows, gathered from run folders.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "adatape/analysis/curves.h"
#include "adatape/analysis/results.h"
#include "adatape/analysis/table.h"
#include "adatape/analysis/tape_budget_table.h"
#include "adatape/analysis/tape_usage.h"

namespace adatape {

// What was measured on the model of a ComparedModel: that of its first seed.
struct ModelMeasurement {
  TapeUsage usage;
  std::vector<BudgetResult>
      budgets;          // accuracy at tape budgets over the whole range; empty where it was not asked for or nothing can be moved
  std::string problem;  // why nothing was measured (the model or its data could not be read); "" when all went well
  std::string covariate_name, element_covariate_name;
  std::vector<std::string> symbol_names, class_names;
  std::vector<std::string> notes;  // of its task: what a person should know about the data
  bool answers_each = false;       // InputSpec::answers_each: accuracy is that of whole sequences
};

struct Comparison {
  std::vector<FinishedRun> runs;
  std::vector<std::string> unfinished;
  std::vector<ComparedModel> models;           // point into runs
  std::vector<ModelMeasurement> measurements;  // of each model
  std::vector<Curves> curves;                  // of each run
  bool speed_measured = false;                 // examples_per_second of the chosen runs are measure_speeds()'s, not their own
  std::string command;

  Comparison() = default;
  Comparison(const Comparison&) = delete;
  Comparison& operator=(const Comparison&) = delete;
  Comparison(Comparison&&) = default;
  Comparison& operator=(Comparison&&) = default;
  const Curves& curves_of(const FinishedRun& run) const { return curves[static_cast<size_t>(&run - runs.data())]; }
};

// Reads and gathers the folders; no model is opened yet. Error as read_run_folders has it, and when no finished run is among them.
Comparison read_comparison(const std::vector<std::string>& folders, const std::string& command);

struct MeasureOptions {
  int64_t examples = 2000;  // test examples for tapes, cost and budgets
  int64_t shown = 3;        // of these, kept step by step
  bool sweep = false;       // measure budgets, on models that halt by a threshold
};

// Opens each model and runs it on test examples. What cannot be opened becomes a `problem`. progress(done) is called before each model and
// between its batches; it may throw.
void measure(Comparison& comparison, at::Device device, const MeasureOptions& options,
             const std::function<void(size_t done)>& progress = {});

// Times all chosen runs on this machine, one after the other, with weights packed for inference: test examples in a batch of at most
// kSpeedBatch, the median pass of kSpeedSeconds (and of kSpeedPasses at least) after a first one. Puts examples_per_second, and the FLOPs
// of what was timed over kCountedExamples (packed weights may need fewer than those that were trained), into the runs and their rows of
// results.json, with "speed_measured" {"device", "threads", "batch_size"} beside it. What cannot be opened keeps its own figure. progress
// as in measure().
inline constexpr int64_t kSpeedBatch = 256, kSpeedPasses = 9;
inline constexpr int64_t kCountedExamples = 10'000;  // as many as evaluate() records
inline constexpr double kSpeedSeconds = 2;
void measure_speeds(Comparison& comparison, at::Device device, const std::function<void(size_t done)>& progress = {});

// results_json (results.h) with what was measured on each model's first seed: "tape_budgets" (tape_budget_table.h), "rows_on_object"
// {"share", "by_weight", "chance"}, "tape_by_covariate" {"covariate", "groups": [{"value", "examples", "tape_tokens"}]}, mean lengths, and,
// of models that halt, "ponder_by_covariate" likewise with mean "steps"; "elements" in the place of "examples" where the task says how hard
// each element of a sequence is.
nlohmann::ordered_json measured_results_json(const Comparison& comparison);

}  // namespace adatape
