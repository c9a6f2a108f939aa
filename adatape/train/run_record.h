// What a run folder says about its run: whether one is there, run.json and result.json.
#pragma once

#include <ATen/core/Tensor.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "adatape/train/evaluate.h"
#include "adatape/train/run_config.h"
#include "adatape/train/train_state.h"

namespace adatape {

enum class OutputState {
  kFresh,       // begin here
  kUnfinished,  // a run to go on with
  kFinished,    // result.json is there
};

// Looks at an output folder and changes nothing. Error when it holds a run and resume is false; when resume is true and there is no folder,
// config.toml differs from config (the first differing key with both values), or beginning at step 0 would overwrite saved weights.
OutputState inspect_output(const std::string& output, RunConfig& config, bool resume);

// Whether `train --resume` would lose nothing here: there is a checkpoint to go on from, or no weights have been saved yet (the first
// checkpoint is written before the first weights). False for imported models and for folders of which only the model was kept.
bool can_resume(const std::string& output);
// Why a run or model folder has no result.json, for people.
std::string why_without_result(const std::string& output);

// Holds a run folder for this process (flock); Error when another one trains into it.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_;
};

// Writes run.json: command, version, seed, device, threads, start (UTC). With a step, adds an entry to "resumed" of the file that is there.
// Returns what a person should know about the change of machine ("" mostly): another thread count or device gives other bits.
std::string write_run_json(const std::string& output, const std::string& command, int64_t seed, at::Device device,
                           std::optional<int64_t> resumed_at_step);

// {"covariate": name, "groups": [{"value", "examples", "accuracy"}]}
nlohmann::ordered_json accuracy_by_covariate(const EvaluationResult& result);

// Adds "top5_accuracy", "calibration_error" and "confusion" (a row a true class) where there are classes.
void add_classification(nlohmann::ordered_json& row, const ClassificationMetrics& metrics);

// What only some tasks and models have: "answer_accuracy", "described" {name: value} (Task::describe_loss), and of mixtures of experts
// "experts" [{"part", "served", "dropped"}].
nlohmann::ordered_json where_they_apply(const EvaluationResult& result);

// The content of result.json, one row of a table of results. "draws" counts; "draw_history" lists them.
nlohmann::ordered_json make_result(const RunConfig& config, const TrainState& state, const EvaluationResult& test, int64_t parameters,
                                   at::Device device, const std::string& command);
// The same for people: a few aligned lines that may go to a terminal.
std::string summarize_result(const nlohmann::ordered_json& result);
// The result.json of a finished run. Error that names the file where it is not what make_result gives.
nlohmann::ordered_json read_result(const std::string& output);

// A word as a shell reads it back: quoted where it has to be.
std::string shell_quote(const std::string& word);

}  // namespace adatape
