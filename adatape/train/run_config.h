// The configuration of a run: [task], [model], [training], [evaluation] and a label.
#pragma once

#include <memory>
#include <string>

#include "adatape/core/config.h"
#include "adatape/models/model.h"
#include "adatape/tasks/task.h"

namespace adatape {

struct TrainingConfig {
  int64_t steps = 1000;
  int64_t batch_size = 256;
  int64_t accumulate = 1;             // micro-batches that a step is split into
  std::string precision = "float32";  // float32 | bfloat16
  std::string parallel = "auto";      // auto | examples | operators
  double learning_rate = 1e-3;
  int64_t warmup_steps = 50;
  std::string schedule = "cosine";  // cosine | constant
  double weight_decay = 0.0;
  double beta1 = 0.9, beta2 = 0.999;
  double clip_norm = 1.0;      // 0 = off
  double average_decay = 0.0;  // of the weights' moving average; 0 = off
  int64_t data_threads = 1;
  int64_t evaluate_every = 25;  // steps; validation split
  int64_t validation_examples = 10000;
  double stop_at = 0.0;         // stop when validation accuracy reaches it; 0 = never
  double restart_below = 0.0;   // draw all weights anew when validation accuracy is below this ...
  int64_t restart_after = 150;  // ... at the first evaluation at or after this step of a draw; restart_below = 0: never
  int64_t maximum_draws = 20;
  int64_t checkpoint_every = 500;  // steps; 0 = only at the end and when interrupted
  int64_t keep_checkpoints = 2;
  int64_t seed = 1;
  void fields(FieldVisitor& visit);
};

struct EvaluationConfig {
  int64_t test_examples = 100000;  // capped by what the task has
  int64_t batch_size = 1000;
  void fields(FieldVisitor& visit);
};

struct RunConfig {
  std::string label;        // name in tables; default: model.name as it was given
  std::string description;  // what the run shows, one or two sentences; reports print it
  std::string published;    // what the source reports for this, in a few words
  double goal = 0;          // what the run's value should reach (analysis/family.h); 0: none
  std::unique_ptr<TaskConfig> task;
  std::unique_ptr<ModelConfig> model;
  TrainingConfig training;
  EvaluationConfig evaluation;

  // Picks schemas by task.name and model.name (a registry name or a published size: models/presets.h), reads everything, validates. Throws
  // Error.
  static RunConfig from_document(const ConfigDocument& document);
  std::string to_toml();
  void fields(FieldVisitor& visit);
};

}  // namespace adatape
