// Finds the thresholds that meet a tape budget, on held-out examples.
#pragma once

#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "adatape/train/tape_budget.h"

namespace adatape {

inline constexpr int64_t kCalibrationExamples = 2000;

// Calibrates on the first examples of the task's calibration_split(), never on those that results are reported on.
//
// One share serves all readers: tau = share x T. What a reader reads at step t does not depend on its threshold, which only says after
// which step it stops. So one forward pass without thresholds, which records the halting sums of all steps, gives the tape lengths of every
// share, and the share is found by bisection without a further pass. FLOPs follow from the lengths: each combination of lengths that occurs
// is run once on one example. Only where a later reader's query depends on what an earlier one appended, or where the encoder halts and
// FLOPs are asked for, each trial of the bisection is a pass.
//
// A budget above full tapes lengthens T, doubling until the budget is within reach or the bank is read.
class TapeCalibration {
 public:
  // Error when no reader halts by a threshold. progress() is called between batches and may throw.
  TapeCalibration(const LoadedRun& run, at::Device device, int64_t examples, std::function<void()> progress = {});

  // The setting for a budget; Error when one tape token a reading is above it already. The model's own settings are unchanged.
  TapeSetting find(const TapeBudget& budget);

  // Mean tape tokens of an example: after one step of every reading, with full tapes (the model's own T), and with tapes of `stretch` times
  // T as far as the bank reaches.
  double fewest_tokens();
  double most_tokens(double stretch = 1);

 private:
  // What a reader did without a threshold.
  struct Recorded {
    int64_t longest = 0;           // T
    std::vector<float> halting;    // [examples, T] sum of the largest weights after each step
    std::vector<int64_t> lengths;  // [examples] steps taken: T, or what the bank has
  };
  struct Cost {
    double tape_tokens = 0, flops = 0;
  };

  bool adjustable(size_t reader) const;
  // Settings of the readers that can be adjusted; threshold infinity: none.
  std::vector<ReaderSetting> settings(double share, double stretch);
  const std::vector<Recorded>& recorded(double stretch);
  void for_each_batch(const std::function<void(const ModelOutput& output, int64_t first, int64_t count)>& use);
  Cost cost(double share, double stretch, bool with_flops);
  Cost cost_by_forward(double share, double stretch);
  double flops_of(int64_t example, const std::vector<int64_t>& lengths);
  double full_flops();

  const LoadedRun& run_;
  const at::Device device_;
  const Split split_;
  const int64_t examples_;
  const std::function<void()> progress_;
  std::vector<TapeReader*> readers_;
  std::vector<TapeReaderConfig> own_;                                 // as the run has them
  bool dependent_ = false;                                            // some query depends on tape tokens that were read before
  bool halts_ = false;                                                // the encoder's FLOPs depend on what an example shows; seen in a pass
  std::map<double, std::vector<Recorded>> recorded_;                  // by stretch
  std::vector<int64_t> input_lengths_;                                // symbols of each example, 0 for images
  std::map<std::pair<int64_t, std::vector<int64_t>>, double> flops_;  // by input length and tape lengths
  std::map<std::pair<double, double>, Cost> forwarded_;               // by share and stretch
};

// Mean tape tokens from one step of every reading over full tapes to twice as long ones, as far as the bank reaches.
std::vector<TapeBudget> sweep_budgets(TapeCalibration& calibration);

}  // namespace adatape
