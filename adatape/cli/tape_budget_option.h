// --tape-budget of commands that run a model at one budget: the thresholds are calibrated before the command's own work.
#pragma once

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "adatape/train/tape_calibration.h"

namespace adatape::cli {

struct TapeBudgetOption {
  std::string text;
  int64_t calibration_examples = kCalibrationExamples;

  void declare(CLI::App& app);  // --tape-budget, --calibration-examples

  // The setting that meets the budget, on examples of the run's own task, which is opened where it is not yet; the model and its
  // configuration have it afterwards. nullopt: no budget was asked for. Error: no such budget, no reader that halts, no data.
  std::optional<TapeSetting> apply(LoadedRun& run, c10::Device device, bool quiet) const;
};

}  // namespace adatape::cli
