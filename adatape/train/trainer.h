// The training loop of a run folder: steps, validation, new draws of the weights, checkpoints, the final test.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "adatape/core/progress.h"
#include "adatape/data/prefetch.h"
#include "adatape/train/metrics_log.h"
#include "adatape/train/optimizer.h"
#include "adatape/train/run_config.h"
#include "adatape/train/train_state.h"

namespace adatape {

struct TrainOptions {
  std::string output;   // run folder
  std::string command;  // as typed, for the records
  at::Device device = at::kCPU;
  bool resume = false;
  bool quiet = false;
};

// Equal configuration, task, thread count and device give equal bits, however often the run was interrupted: data and noise are keyed by
// (training.seed, step), and a checkpoint holds everything else. Run folder: see train/run_folder.h.
class Trainer {
 public:
  // model: made for config and task; its weights are drawn (or read) by run().
  Trainer(RunConfig& config, const Task& task, Model& model, TrainOptions options);
  ~Trainer();

  // Trains to the end, loads the best weights into the model, evaluates them on the test split and returns the content of result.json; of a
  // run that is finished already, that alone.
  // Throws Interrupted after saving when a stop was requested (core/signals.h); Error when loss or gradients stop being finite (the last
  // checkpoint stays as it is), when files cannot be written, when another process trains into the folder, or as inspect_output has it.
  nlohmann::ordered_json run();

 private:
  void open_folder();
  void train_step();
  [[noreturn]] void fail_non_finite(int64_t step, const std::string& what);
  void write_losses(double learning_rate, double gradient_norm);
  bool evaluation_due() const;
  void validate();
  bool finished() const;
  void restart();
  void save();
  void export_model();
  nlohmann::ordered_json test();
  [[noreturn]] void stop(const std::string& what);
  void begin_progress();
  void add_training_time(std::chrono::steady_clock::time_point start);
  double wall_seconds() const;

  RunConfig& config_;
  const Task& task_;
  Model& model_;
  const TrainOptions options_;
  AdamW optimizer_;
  TrainState state_;
  std::unique_ptr<MetricsLog> metrics_;
  std::unique_ptr<Prefetcher> prefetcher_;
  std::unique_ptr<Progress> progress_;
  std::string detail_;  // of the progress line
  std::string loss_text_, accuracy_text_;
  int64_t saved_step_ = -1;     // of the newest checkpoint
  bool unsaved_ = true;         // the state has moved on since
  int64_t exported_step_ = -1;  // whose weights are in model.safetensors
  std::chrono::steady_clock::time_point started_;
  double wall_seconds_before_ = 0, waited_before_ = 0;
};

}  // namespace adatape
