#include "adatape/cli/tape_budget_option.h"

#include <iostream>

#include "adatape/analysis/tape_budget_table.h"
#include "adatape/cli/at_least.h"
#include "adatape/core/check.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/tasks/task.h"

namespace adatape::cli {
namespace {

// A model folder travels without its data: whoever has none can still set the thresholds that a calibration elsewhere printed.
std::unique_ptr<Task> open_task(const LoadedRun& run, const std::string& budget) {
  try {
    return find_task(run.config.task->name).make_task(*run.config.task);
  } catch (const Error& error) {
    std::string got = error.what();
    if (got.ends_with('.')) got.pop_back();
    throw Error(concat("--tape-budget: expected the data that the run was trained on, to calibrate on, got: ", got,
                       "; or calibrate where the data is (adatape evaluate ", run.folder, " --tape-budget ", budget,
                       ") and give here what that prints: --set model.readers.0.threshold=X"));
  }
}

}  // namespace

void TapeBudgetOption::declare(CLI::App& app) {
  app.add_option("--tape-budget", text,
                 "mean tape tokens an example (4.5), or a share of the FLOPs of full tapes (80%); calibrated on the run's own data, never "
                 "on test examples")
      ->type_name("X");
  app.add_option("--calibration-examples", calibration_examples,
                 "examples that thresholds are found on: validation, or training where validation is the test")
      ->type_name("N")
      ->check(at_least(1))
      ->capture_default_str();
}

std::optional<TapeSetting> TapeBudgetOption::apply(LoadedRun& run, c10::Device device, bool quiet) const {
  if (text.empty()) return std::nullopt;
  const TapeBudget budget = parse_tape_budget(text);
  if (run.task == nullptr) run.task = open_task(run, text);
  Progress progress("calibrate", 0, "batches", quiet);
  int64_t batches = 0;
  TapeCalibration calibration(run, device, calibration_examples, [&] {
    if (stop_requested()) throw Interrupted("calibration stopped; nothing was written");
    progress.update(++batches);
  });
  const TapeSetting setting = calibration.find(budget);
  progress.finish();
  apply_tape_setting(run, setting);
  if (!setting.met) std::cerr << "adatape: " << unmet_budget(setting) << std::endl;
  return setting;
}

}  // namespace adatape::cli
