// Finished runs, read from their folders and gathered to what a comparison shows: one entry a model, one chosen run a seed.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace adatape {

// One run folder with result.json.
struct FinishedRun {
  std::string folder;
  nlohmann::ordered_json result;  // result.json as it stands, checked: what the fields below are taken from has the right type
  std::string config_toml;        // config.toml as it stands
  std::string sameness;           // the resolved configuration without seed and learning rate: equal for runs that differ in these alone
  std::string model;              // the label
  std::string model_name, task, description, published;
  bool images = false;  // what an example is; else a sequence
  int64_t seed = 0, steps = 0, draws = 0, test_examples = 0;
  // NaN where result.json has null.
  double learning_rate = 0, accuracy = 0, validation_accuracy = 0, training_seconds = 0, tape_length_mean = 0, tape_length_std = 0,
         tokens = 0, flops = 0, examples_per_second = 0;
  double goal = 0;             // of the configuration; 0: none
  double validation_loss = 0;  // at the best evaluation; NaN where neither result.json nor metrics.jsonl says it
};

struct RunFolders {
  std::vector<FinishedRun> finished;
  std::vector<std::string> unfinished;  // folders with config.toml and without result.json
};

// Reads run folders in the order given, each once. Error that names the folder: nothing there, a file, no config.toml (not a run), or files
// whose content is not what `adatape train` writes.
RunFolders read_run_folders(const std::vector<std::string>& folders);

enum class Role { kAdaptive, kBaseline, kControl };

// The run shown for a seed, and all that were tried for it (learning rates), in ascending order of learning rate.
struct SeedRuns {
  const FinishedRun* chosen = nullptr;
  std::vector<const FinishedRun*> tried;
};

// Runs of one model: equal labels and configurations but for seed and learning rate.
struct ComparedModel {
  std::string name;  // the label; with the folder's name behind it where other runs have this label too
  Role role = Role::kBaseline;
  std::vector<SeedRuns> seeds;  // ascending
  size_t learning_rates = 1;    // most learning rates tried for a seed
  const FinishedRun& first() const { return *seeds.front().chosen; }
};

// A number of each seed's chosen run, in the order of the seeds.
std::vector<double> over_seeds(const ComparedModel& model, double FinishedRun::*number);

// Gathers runs: AdaTape first, then baselines, then controls (labels that begin with "control_"), otherwise in the order given. Where a
// seed was trained at several learning rates, the run with the best validation accuracy is chosen (the test split never chooses), the lower
// validation loss at a tie, as in training, and then the lower rate. Runs that repeat label, configuration, seed and learning rate are
// models of their own. The runs must outlive the result.
std::vector<ComparedModel> gather(const std::vector<FinishedRun>& runs);

// {"command", "version", "runs": [one row a model and seed]}: each row is the chosen run's result.json, then "folder" and "learning_rates"
// [{"learning_rate", "validation_accuracy", "accuracy", "validation_loss" where it is known}] with all that were tried; on images the speed
// is "images_per_second" too.
nlohmann::ordered_json results_json(const std::vector<ComparedModel>& models, const std::string& command);

}  // namespace adatape
