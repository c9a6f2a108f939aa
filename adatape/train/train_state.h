// The full state of a run between two steps, and its checkpoints.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "adatape/core/safetensors.h"
#include "adatape/models/model.h"
#include "adatape/train/optimizer.h"

namespace adatape {

// What became of one draw of the weights.
struct DrawRecord {
  int64_t steps = 0;
  double seconds = 0;              // training seconds, as TrainState::training_seconds
  double validation_accuracy = 0;  // the best one of the draw
};

struct TrainState {
  int64_t step = 0;                      // steps of all draws; keys data and noise
  int64_t draw_step = 0;                 // steps of this draw; the schedule counts these
  std::vector<DrawRecord> draws = {{}};  // the last one is under way
  int64_t evaluated_step = 0;            // the last step that was followed by an evaluation
  bool restart_decided = false;          // the one look at restart_below of this draw has been taken
  bool reached_goal = false;             // stop_at was reached

  // The best weights on validation data, on the CPU; empty before the first evaluation.
  NamedTensors best_weights;
  int64_t best_step = 0;
  double best_accuracy = -1;
  double best_loss = std::numeric_limits<double>::max();

  // The moving average of the weights, on the model's device; empty without training.average_decay.
  NamedTensors averaged_weights;

  double training_seconds = 0;  // steps, waiting for data, drawing weights; not evaluation, not checkpoints
  double wall_seconds = 0;
  double waited_for_data_seconds = 0;

  // Losses since the last line of metrics.jsonl, so that a resumed run writes the same means.
  std::map<std::string, double> loss_sums;
  int64_t loss_count = 0;
  int64_t metrics_bytes = 0;

  int64_t draw() const { return static_cast<int64_t>(draws.size()) - 1; }
};

// Writes output/checkpoints/step_N (N = state.step), then removes all but the `keep` newest ones, and those of later steps (which a resume
// could not read). A process may be killed at any moment: step_N, or what it replaces, is there whole, the new one as step_N.partial for
// the moment between removing the old one and taking its name. Error with the system's reason; older checkpoints are then untouched.
void write_checkpoint(const std::string& output, const TrainState& state, const Model& model, const AdamW& optimizer, int64_t keep);

// Loads the newest checkpoint of output that can be read into model and optimiser. nullopt: there is none. A damaged one is passed over
// with a line to `note`; Error when all are damaged. A replacement that a killed process began is finished first, and what it left half
// written is removed.
std::optional<TrainState> read_newest_checkpoint(const std::string& output, Model& model, AdamW& optimizer,
                                                 const std::function<void(const std::string&)>& note);

// Steps of the checkpoints of a run, newest first, those whose replacement is to be finished too. Changes nothing.
std::vector<int64_t> list_checkpoints(const std::string& output);

}  // namespace adatape
