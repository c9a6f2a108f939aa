// The knob of a trained model with tapes: how much an example may read. It moves the readers' thresholds and, beyond what training
// allowed, their longest tapes; no weight and no K changes. Where the thresholds come from: train/tape_calibration.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adatape/train/run_folder.h"

namespace adatape {

// What a user asks for.
struct TapeBudget {
  double amount = 0;            // mean tape tokens of an example, all readers together; or a share of the FLOPs of full tapes (1 = 100 %)
  bool share_of_flops = false;  // which of the two
  std::string text;             // as it was written, without blanks
};

// "4.5", "60%" or "60 %". Error on everything else, zero and negative numbers included.
TapeBudget parse_tape_budget(const std::string& text);

// Settings of one reader that meet a budget.
struct ReaderSetting {
  size_t reader = 0;                       // index in model.readers
  double threshold = 0;                    // tau
  std::optional<int64_t> max_tape_tokens;  // T; nullopt: the bank's, as the reader has it
};

// Settings of all readers that halt by a threshold, and what they cost on the calibration examples.
struct TapeSetting {
  TapeBudget budget;
  std::vector<ReaderSetting> readers;
  double share = 1;                   // threshold / T, one for all readers
  bool beyond_training = false;       // T is longer than the model's own
  bool met = false;                   // the budget, within 2 %; else this is the nearest that can be reached and is not above it
  double tape_tokens = 0;             // mean of an example
  double flops = 0, flops_share = 0;  // mean of an example; as a share of the FLOPs of full tapes (the model's own T)
  int64_t examples = 0;               // calibration examples
  std::string split;                  // which ones: "validation" or "training"
};

// Changes the model and its configuration alike. The readers must be those of the setting.
void apply_tape_setting(LoadedRun& run, const TapeSetting& setting);

// The same as assignments for --set: "model.readers.0.threshold=2.4", and T where it is beyond training.
std::vector<std::string> tape_setting_assignments(const TapeSetting& setting);

}  // namespace adatape
