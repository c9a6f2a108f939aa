#include "adatape/train/trainer.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/number_text.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"
#include "adatape/nn/mixed_precision.h"
#include "adatape/train/evaluate.h"
#include "adatape/train/gradients.h"
#include "adatape/train/micro_batch.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/run_record.h"
#include "adatape/train/schedule.h"
#include "adatape/train/version.h"
#include "adatape/train/weight_average.h"

namespace adatape {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kLogEvery = 10;     // steps of a draw
constexpr int64_t kBatchesAhead = 3;  // and one for each thread that makes them

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Scalars as numbers: one copy from the device for all of them.
std::vector<double> numbers_of(const std::vector<at::Tensor>& scalars) {
  std::vector<double> numbers;
  if (scalars.front().is_cpu()) {
    for (const at::Tensor& scalar : scalars) numbers.push_back(scalar.item<double>());
    return numbers;
  }
  const at::Tensor all = at::stack(scalars).to(at::kCPU, at::kDouble);
  numbers.assign(all.const_data_ptr<double>(), all.const_data_ptr<double>() + all.numel());
  return numbers;
}

struct EvaluationStopped {};

// Leaves an evaluation when a stop was requested: the resumed run takes it again.
void leave_when_stopped(int64_t) {
  if (stop_requested()) throw EvaluationStopped{};
}

AdamWOptions optimizer_options(const TrainingConfig& config) {
  return {.beta1 = config.beta1, .beta2 = config.beta2, .weight_decay = config.weight_decay, .clip_norm = config.clip_norm};
}

at::ScalarType products_of(const TrainingConfig& config) { return config.precision == "bfloat16" ? at::kBFloat16 : at::kFloat; }

Model& moved(Model& model, at::Device device) {
  model.to(device);
  return model;
}

}  // namespace

Trainer::Trainer(RunConfig& config, const Task& task, Model& model, TrainOptions options)
    : config_(config),
      task_(task),
      model_(moved(model, options.device)),
      options_(std::move(options)),
      optimizer_(model, optimizer_options(config.training)) {
  ADATAPE_CHECK(products_of(config.training) == at::kFloat || options_.device.is_cuda(), "training.precision",
                "bfloat16 needs a CUDA device, got ", options_.device.str(), "; leave it out or train with --device cuda");
}

Trainer::~Trainer() = default;

nlohmann::ordered_json Trainer::run() {
  started_ = Clock::now();
  make_directories(options_.output);
  const FolderLock lock(options_.output);
  // Looked at by the caller already, but until the lock was taken another process may have trained here.
  if (inspect_output(options_.output, config_, options_.resume) == OutputState::kFinished) return read_result(options_.output);
  open_folder();
  const TrainingConfig& training = config_.training;
  prefetcher_ = std::make_unique<Prefetcher>(
      [this](uint64_t step) {
        return task_.training_batch(static_cast<uint64_t>(config_.training.seed), step, config_.training.batch_size);
      },
      static_cast<uint64_t>(state_.step), training.data_threads, kBatchesAhead - 1 + std::max<int64_t>(1, training.data_threads));
  begin_progress();
  while (true) {
    if (evaluation_due()) {
      try {
        validate();
      } catch (const EvaluationStopped&) {
        stop("training");
      }
    }
    if (finished()) break;
    if (stop_requested()) stop("training");
    if (training.checkpoint_every > 0 && state_.step % training.checkpoint_every == 0 && state_.step > 0) save();
    train_step();
  }
  save();
  progress_->finish(detail_);
  return test();
}

void Trainer::open_folder() {
  const auto note = [this](const std::string& line) {
    if (!options_.quiet) std::fprintf(stderr, "adatape: %s\n", for_terminal(line).c_str());
  };
  if (options_.resume) {
    if (auto state = read_newest_checkpoint(options_.output, model_, optimizer_, note)) {
      state_ = std::move(*state);
      saved_step_ = state_.step;
      unsaved_ = false;
      wall_seconds_before_ = state_.wall_seconds;
      waited_before_ = state_.waited_for_data_seconds;
      note(concat("going on from step ", state_.step));
    } else {
      note(concat(options_.output, " has no checkpoint yet: beginning at step 0"));
    }
  }
  if (saved_step_ < 0) {
    const auto start = Clock::now();
    model_.initialize(static_cast<uint64_t>(config_.training.seed), 0);
    if (config_.training.average_decay > 0) state_.averaged_weights = begin_average(model_);
    add_training_time(start);
    write_file_atomically(options_.output + "/config.toml", config_.to_toml());
  }
  const std::string remark = write_run_json(options_.output, options_.command, config_.training.seed, options_.device,
                                            options_.resume ? std::optional(state_.step) : std::nullopt);
  if (!remark.empty()) note(remark);
  metrics_ =
      std::make_unique<MetricsLog>(options_.output, state_.metrics_bytes, options_.resume ? std::optional(state_.step) : std::nullopt);
}

void Trainer::train_step() {
  const auto start = Clock::now();
  const TrainingConfig& training = config_.training;
  const Batch batch = prefetcher_->next();
  const ForwardOptions forward{.training = true,
                               .seed = static_cast<uint64_t>(training.seed),
                               .step = static_cast<uint64_t>(state_.step),
                               .draw_step = static_cast<uint64_t>(state_.draw_step)};
  const int64_t part_size = (batch.size() + training.accumulate - 1) / training.accumulate;

  // Names and values of the losses, means over the batch: the whole objective, the task's part, the auxiliary ones.
  std::vector<std::string> names;
  std::vector<at::Tensor> values;
  const auto add = [&](const std::string& name, const at::Tensor& value) {
    const auto found = std::find(names.begin(), names.end(), name);
    if (found == names.end()) {
      names.push_back(name);
      values.push_back(value);
    } else {
      at::Tensor& sum = values[static_cast<size_t>(found - names.begin())];
      sum = sum + value;
    }
  };
  optimizer_.zero_grad();
  for (int64_t first = 0; first < batch.size(); first += part_size) {
    const int64_t count = std::min(part_size, batch.size() - first);
    const Batch part =
        (count == batch.size() ? batch : micro_batch(batch, first, count, task_.input_spec().answers_each)).to(options_.device);
    const double share = static_cast<double>(count) / static_cast<double>(batch.size());
    BatchGradients result =
        gradients_of(model_, task_, part, forward, share, parallel_parts(training, model_, count, options_.device), products_of(training));
    for (const auto& [name, value] : result.losses) add(name, value);
    optimizer_.add_gradients(std::move(result.gradients));
  }
  const at::Tensor norm = optimizer_.gradient_norm();
  const double learning_rate = learning_rate_at(training, state_.draw_step);
  // On the CPU the numbers are there already; elsewhere the one wait for them comes after the whole step is queued.
  if (!norm.is_cpu()) optimizer_.step(learning_rate, norm);
  values.push_back(norm);
  const std::vector<double> numbers = numbers_of(values);
  const double loss = numbers[static_cast<size_t>(std::find(names.begin(), names.end(), "loss") - names.begin())];
  const double gradient_norm = numbers.back();
  if (!std::isfinite(loss) || !std::isfinite(gradient_norm))
    fail_non_finite(state_.step + 1, concat("loss ", loss, ", gradient norm ", gradient_norm));
  if (norm.is_cpu()) optimizer_.step(learning_rate, norm);
  if (!state_.averaged_weights.empty()) update_average(state_.averaged_weights, model_, training.average_decay, state_.draw_step);

  unsaved_ = true;
  ++state_.step;
  ++state_.draw_step;
  ++state_.draws.back().steps;
  ++state_.loss_count;
  for (size_t i = 0; i < names.size(); ++i) state_.loss_sums[names[i]] += numbers[i];
  state_.waited_for_data_seconds = waited_before_ + prefetcher_->waited_seconds();
  add_training_time(start);
  if (state_.draw_step % kLogEvery == 0 || evaluation_due()) write_losses(learning_rate, gradient_norm);
  progress_->update(state_.step, detail_);
}

void Trainer::fail_non_finite(int64_t step, const std::string& what) {
  metrics_->flush();
  progress_->finish(detail_);
  throw Error(concat(
      "training: step ", step, ": expected finite losses and gradients, got ", what,
      saved_step_ >= 0 ? concat("; the checkpoint of step ", saved_step_, " is kept") : std::string("; no checkpoint was written yet"),
      "; try a lower training.learning_rate or training.clip_norm"));
}

void Trainer::write_losses(double learning_rate, double gradient_norm) {
  std::map<std::string, double> numbers = {{"learning_rate", learning_rate},
                                           {"gradient_norm", gradient_norm},
                                           {"training_seconds", state_.training_seconds},
                                           {"waited_for_data_seconds", state_.waited_for_data_seconds}};
  for (const auto& [name, sum] : state_.loss_sums) numbers[name] = sum / static_cast<double>(state_.loss_count);
  counts_to_shares(numbers);
  metrics_->write("train", state_.step, state_.draw(), numbers);
  loss_text_ = number_text("loss %.4g", numbers.at("loss"));
  if (const auto dropped = numbers.find("dropped_share"); dropped != numbers.end())
    loss_text_ += number_text("  dropped %.1f %%", 100 * dropped->second);
  detail_ = loss_text_ + accuracy_text_;
  state_.loss_sums.clear();
  state_.loss_count = 0;
}

bool Trainer::evaluation_due() const {
  const bool at_evaluation = state_.draw_step % config_.training.evaluate_every == 0 || state_.draw_step == config_.training.steps;
  return state_.draw_step > 0 && at_evaluation && state_.evaluated_step != state_.step;
}

void Trainer::validate() {
  const TrainingConfig& training = config_.training;
  std::optional<AveragedModel> averaged(std::in_place, model_, state_.averaged_weights);
  const MixedPrecision precision(products_of(training), options_.device);
  const EvaluationResult result = evaluate(model_, task_, Split::kValidation, training.validation_examples, config_.evaluation.batch_size,
                                           options_.device, /*quick=*/true, leave_when_stopped);
  if (!std::isfinite(result.loss)) fail_non_finite(state_.step, concat("validation loss ", result.loss));
  unsaved_ = true;
  state_.evaluated_step = state_.step;
  std::map<std::string, double> numbers = {{"validation_accuracy", result.accuracy}, {"validation_loss", result.loss}};
  for (const auto& [name, value] : result.auxiliary_losses) numbers["validation_" + auxiliary_key(name)] = value;
  numbers["training_seconds"] = state_.training_seconds;
  metrics_->write("validation", state_.step, state_.draw(), numbers);
  metrics_->flush();
  accuracy_text_ = number_text("  validation accuracy %.2f %%", 100 * result.accuracy);
  detail_ = loss_text_ + accuracy_text_;

  DrawRecord& draw = state_.draws.back();
  draw.validation_accuracy = std::max(draw.validation_accuracy, result.accuracy);
  const bool better = result.accuracy > state_.best_accuracy || (result.accuracy == state_.best_accuracy && result.loss < state_.best_loss);
  if (better) {
    state_.best_accuracy = result.accuracy;
    state_.best_loss = result.loss;
    state_.best_step = state_.step;
    for (const auto& [name, tensor] : parameters_of(model_))
      state_.best_weights[name] = tensor.to(at::kCPU, tensor.scalar_type(), false, /*copy=*/true);
  }
  averaged.reset();
  if (training.stop_at > 0 && result.accuracy >= training.stop_at) state_.reached_goal = true;

  const bool decides = training.restart_below > 0 && !state_.restart_decided && state_.draw_step >= training.restart_after;
  if (!decides || state_.reached_goal) return;
  state_.restart_decided = true;
  if (result.accuracy >= training.restart_below || state_.draw() + 1 >= training.maximum_draws) return;
  progress_->note(concat("step ", state_.step, ": validation accuracy ", number_text("%.2f %%", 100 * result.accuracy), " is below ",
                         number_text("%.4g %%", 100 * training.restart_below), ": drawing the weights anew (draw ", state_.draw() + 2,
                         " of at most ", training.maximum_draws, ")"));
  restart();
}

void Trainer::restart() {
  const auto start = Clock::now();
  state_.draws.emplace_back();
  state_.draw_step = 0;
  state_.restart_decided = false;
  model_.initialize(static_cast<uint64_t>(config_.training.seed), static_cast<uint64_t>(state_.draw()));
  if (!state_.averaged_weights.empty()) state_.averaged_weights = begin_average(model_);
  optimizer_.reset();
  add_training_time(start);
  begin_progress();
}

bool Trainer::finished() const { return state_.reached_goal || state_.draw_step >= config_.training.steps; }

void Trainer::save() {
  if (unsaved_) {
    metrics_->flush();
    state_.metrics_bytes = metrics_->size();
    state_.wall_seconds = wall_seconds();
    write_checkpoint(options_.output, state_, model_, optimizer_, config_.training.keep_checkpoints);
    saved_step_ = state_.step;
    unsaved_ = false;
  }
  export_model();
}

void Trainer::export_model() {
  // Before the first evaluation the current weights are the best there are.
  const bool evaluated = !state_.best_weights.empty();
  const int64_t step = evaluated ? state_.best_step : state_.step;
  if (step == exported_step_) return;
  std::map<std::string, std::string> metadata = {{"version", kVersion}, {"step", std::to_string(step)}};
  if (evaluated) metadata["validation_accuracy"] = number_text("%.17g", state_.best_accuracy);
  std::optional<AveragedModel> averaged;
  if (!evaluated) averaged.emplace(model_, state_.averaged_weights);
  write_safetensors(options_.output + "/model.safetensors", evaluated ? state_.best_weights : parameters_of(model_), metadata);
  exported_step_ = step;
}

nlohmann::ordered_json Trainer::test() {
  load_parameters(model_, state_.best_weights, "the best weights");
  // Tested as `evaluate` does, FLOPs included, and handed back as it came.
  struct Packed {
    explicit Packed(Model& given) : model(given) { model.pack_for_inference(torch::kFloat); }
    ~Packed() { model.unpack_weights(); }
    Model& model;
  };
  const MixedPrecision precision(products_of(config_.training), options_.device);
  std::optional<Packed> packed;
  if (options_.device.is_cpu()) packed.emplace(model_);
  Progress progress("test", std::min(config_.evaluation.test_examples, task_.held_out_size(Split::kTest)), "examples", options_.quiet);
  EvaluationResult result;
  try {
    result = evaluate(model_, task_, Split::kTest, config_.evaluation.test_examples, config_.evaluation.batch_size, options_.device,
                      /*quick=*/false, [&](int64_t done) {
                        leave_when_stopped(done);
                        progress.update(done);
                      });
  } catch (const EvaluationStopped&) {
    stop("the test after training");
  }
  progress.finish();
  int64_t parameters = 0;
  for (const auto& [name, tensor] : parameters_of(model_)) parameters += tensor.numel();
  state_.wall_seconds = wall_seconds();
  nlohmann::ordered_json row = make_result(config_, state_, result, parameters, options_.device, options_.command);
  write_file_atomically(options_.output + "/result.json", json_text(row, 2) + "\n");
  return row;
}

void Trainer::stop(const std::string& what) {
  save();
  progress_->finish(detail_);
  throw Interrupted(concat("stopped ", what, " at step ", state_.step, "; go on with: adatape train --output ",
                           shell_quote(options_.output), " --resume"));
}

void Trainer::begin_progress() {
  // Steps of earlier draws are done work, so the bar of a new draw begins behind them.
  const int64_t total = state_.step - state_.draw_step + config_.training.steps;
  const std::string title = state_.draw() == 0 ? config_.label : concat(config_.label, ", draw ", state_.draw() + 1);
  progress_ = std::make_unique<Progress>(title, total, "steps", options_.quiet);
}

void Trainer::add_training_time(Clock::time_point start) {
  const double seconds = seconds_since(start);
  state_.training_seconds += seconds;
  state_.draws.back().seconds += seconds;
}

double Trainer::wall_seconds() const { return wall_seconds_before_ + seconds_since(started_); }

}  // namespace adatape
