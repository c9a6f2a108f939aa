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
#include "adatape/analysis/tape_usage.h"

namespace adatape {

// What was measured on the model of a ComparedModel: that of its first seed.
struct ModelMeasurement {
  TapeUsage usage;
  std::string problem;  // why nothing was measured (the model or its data could not be read); "" when all went well
  std::string covariate_name, element_covariate_name;
  std::vector<std::string> symbol_names, class_names;
};

struct Comparison {
  std::vector<FinishedRun> runs;
  std::vector<std::string> unfinished;
  std::vector<ComparedModel> models;           // point into runs
  std::vector<ModelMeasurement> measurements;  // of each model
  std::vector<Curves> curves;                  // of each run
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

// Opens each model and runs it on `examples` test examples, `shown` of them kept step by step. What cannot be opened becomes a `problem`.
// progress(done) is called before each model and between its batches; it may throw.
void measure(Comparison& comparison, at::Device device, int64_t examples, int64_t shown,
             const std::function<void(size_t done)>& progress = {});

}  // namespace adatape
