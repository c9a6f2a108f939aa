// Run folders for the tests of analysis: hand-made ones, and real small trainings.
#pragma once

#include <ATen/Parallel.h>

#include <map>
#include <string>
#include <vector>

#include "adatape/core/files.h"
#include "adatape/models/registry.h"
#include "adatape/tasks/task.h"
#include "adatape/train/trainer.h"
#include "tests/train/test_run.h"

namespace adatape::testing {

// What a hand-made result.json says; the rest is filled in.
struct HandMade {
  std::string label = "transformer";
  int64_t seed = 1;
  double learning_rate = 0.001, accuracy = 0.5, validation_accuracy = 0.5;
  double training_seconds = 2;
  int64_t draws = 1;
  std::string description = "what it shows";
  std::vector<std::string> assignments = {};  // to its configuration
};

inline nlohmann::ordered_json hand_made_result(const HandMade& run) {
  nlohmann::ordered_json history = nlohmann::ordered_json::array();
  for (int64_t i = 0; i < run.draws; ++i) history.push_back({{"steps", 10 + i}, {"seconds", 1.5}, {"validation_accuracy", 0.5}});
  return {{"model", run.label},
          {"model_name", run.label.starts_with("adatape") ? "adatape" : "transformer"},
          {"task", "parity"},
          {"seed", run.seed},
          {"accuracy", run.accuracy},
          {"loss", nullptr},
          {"validation_accuracy", run.validation_accuracy},
          {"steps", 30},
          {"draws", run.draws},
          {"draw_history", history},
          {"training_seconds", run.training_seconds},
          {"learning_rate", run.learning_rate},
          {"parameters", 123},
          {"tape_length_mean", run.label.starts_with("adatape") ? 4.0 : 0.0},
          {"tape_length_std", run.label.starts_with("adatape") ? 0.5 : 0.0},
          {"tokens", 8.5},
          {"flops", 1234567.0},
          {"examples_per_second", 4000.0},
          {"test_examples", 1000},
          {"device", "cpu"},
          {"threads", 2},
          {"version", "0.1.0"},
          {"command", "adatape train x.toml"},
          {"description", run.description}};
}

inline std::string make_run(const std::string& folder, const HandMade& run) {
  make_directories(folder);
  RunConfig config = tiny_config(run.assignments);
  config.label = run.label;
  config.training.seed = run.seed;
  config.training.learning_rate = run.learning_rate;
  write_file_atomically(folder + "/config.toml", config.to_toml());
  write_file_atomically(folder + "/result.json", hand_made_result(run).dump(2));
  return folder;
}

// A configuration of a small AdaTape on sequences of 8 symbols.
inline RunConfig small_adatape(const std::vector<std::string>& assignments = {}) {
  ConfigDocument document = ConfigDocument::from_text(R"(
label = "adatape"
[task]
name = "parity"
length = 8
[model]
name = "adatape"
input = "class_token"
class_token_start = "normal"
pooling = "token"
width = 16
heads = 2
ffn_width = 16
blocks = 1
[[model.readers]]
before_block = 0
max_tape_tokens = 4
threshold = 1.7
rows_per_step = 2
key_split = 2
[training]
steps = 12
batch_size = 16
evaluate_every = 4
validation_examples = 64
restart_below = 1.0
restart_after = 4
maximum_draws = 2
checkpoint_every = 0
[evaluation]
test_examples = 120
batch_size = 50
)");
  for (const std::string& assignment : assignments) document.set(assignment);
  return RunConfig::from_document(document);
}

// Trains as `adatape train` does.
inline std::string train_run(const std::string& folder, RunConfig config) {
  at::set_num_threads(1);  // so small a model gains nothing from more, and loses where tests run side by side
  const auto task = find_task(config.task->name).make_task(*config.task);
  const auto model = find_model(config.model->name).make_model(*config.model, task->input_spec());
  Trainer(config, *task, *model, {.output = folder, .command = "adatape train", .quiet = true}).run();
  return folder;
}

}  // namespace adatape::testing
