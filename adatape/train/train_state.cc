#include "adatape/train/train_state.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string_view>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/train/load_tensors.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/weight_average.h"

namespace adatape {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(DrawRecord, steps, seconds, validation_accuracy)

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kStaged = ".partial";  // behind the name of a checkpoint that is to take the place of another
constexpr int64_t kStateVersion = 1;

fs::path checkpoint_path(const std::string& output, int64_t step) { return fs::path(output) / "checkpoints" / concat(kPrefix, step); }

// state.json: everything but tensors. nlohmann writes doubles so that they read back to the same bits.
json to_json(const TrainState& state) {
  return {{"version", kStateVersion},
          {"step", state.step},
          {"draw_step", state.draw_step},
          {"draws", state.draws},
          {"evaluated_step", state.evaluated_step},
          {"restart_decided", state.restart_decided},
          {"reached_goal", state.reached_goal},
          {"best_step", state.best_step},
          {"best_accuracy", state.best_accuracy},
          {"best_loss", state.best_loss},
          {"training_seconds", state.training_seconds},
          {"wall_seconds", state.wall_seconds},
          {"waited_for_data_seconds", state.waited_for_data_seconds},
          {"loss_sums", state.loss_sums},
          {"loss_count", state.loss_count},
          {"metrics_bytes", state.metrics_bytes}};
}

TrainState state_from_json(const std::string& text, const std::string& path) {
  try {
    const json object = json::parse(text);
    ADATAPE_CHECK(object.at("version") == kStateVersion, path, "expected version ", kStateVersion, ", got ", object.at("version").dump());
    TrainState state;
    object.at("step").get_to(state.step);
    object.at("draw_step").get_to(state.draw_step);
    object.at("draws").get_to(state.draws);
    object.at("evaluated_step").get_to(state.evaluated_step);
    object.at("restart_decided").get_to(state.restart_decided);
    object.at("reached_goal").get_to(state.reached_goal);
    object.at("best_step").get_to(state.best_step);
    object.at("best_accuracy").get_to(state.best_accuracy);
    object.at("best_loss").get_to(state.best_loss);
    object.at("training_seconds").get_to(state.training_seconds);
    object.at("wall_seconds").get_to(state.wall_seconds);
    object.at("waited_for_data_seconds").get_to(state.waited_for_data_seconds);
    object.at("loss_sums").get_to(state.loss_sums);
    object.at("loss_count").get_to(state.loss_count);
    object.at("metrics_bytes").get_to(state.metrics_bytes);
    ADATAPE_CHECK(!state.draws.empty(), path, "expected at least one draw, got none");
    return state;
  } catch (const json::exception& error) {
    throw Error(concat(path, ": not the state of a run: ", error.what()));
  }
}

TrainState read_checkpoint(const fs::path& path, Model& model, AdamW& optimizer) {
  const std::string state_path = (path / "state.json").string();
  const std::string optimizer_path = (path / "optimizer.safetensors").string();
  const std::string model_path = (path / "model.safetensors").string();
  const std::string best_path = (path / "best.safetensors").string();
  TrainState state = state_from_json(read_file(state_path), state_path);
  if (state.best_accuracy >= 0) {
    // Tried in the model first, so that a damaged file is found now and not at the end of the run.
    state.best_weights = read_safetensors(best_path).tensors;
    load_parameters(model, state.best_weights, best_path);
  }
  const std::string average_path = (path / "average.safetensors").string();
  if (fs::exists(average_path)) {
    load_parameters(model, read_safetensors(average_path).tensors, average_path);
    state.averaged_weights = begin_average(model);
  }
  load_parameters(model, read_safetensors(model_path).tensors, model_path);
  optimizer.load_state(read_safetensors(optimizer_path).tensors, optimizer_path);
  return state;
}

// The step of a checkpoint by its name, "step_20" or, staged, "step_20.partial".
std::optional<int64_t> step_of(std::string name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  if (name.ends_with(kStaged)) name.erase(name.size() - kStaged.size());
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [last, code] = std::from_chars(name.data() + kPrefix.size(), end, step);
  if (code != std::errc() || last != end || step < 0) return std::nullopt;
  return step;
}

fs::path staged_path(fs::path path) {
  path += kStaged;
  return path;
}

// Two steps, since a folder cannot be renamed over a full one. Between them the staged one is all there is of this step; whoever resumes
// finishes what a killed process began (finish_replacements).
void replace_by_staged(const fs::path& path) {
  std::error_code code;
  fs::remove_all(path, code);
  fs::rename(staged_path(path), path, code);
  ADATAPE_CHECK(!code, path.string(), "cannot write: ", code.message());
}

// A staged checkpoint has its name only once it is complete, and is newer than what it replaces.
void finish_replacements(const std::string& output) {
  for (const int64_t step : list_checkpoints(output)) {
    const fs::path path = checkpoint_path(output, step);
    std::error_code ignored;
    if (fs::is_directory(staged_path(path), ignored)) replace_by_staged(path);
  }
}

// Leftovers of a process that was killed while it wrote.
void remove_partial_files(const fs::path& folder) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().extension() == ".partial") fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace

std::vector<int64_t> list_checkpoints(const std::string& output) {
  std::vector<int64_t> steps;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(fs::path(output) / "checkpoints", ignored)) {
    const std::optional<int64_t> step = step_of(entry.path().filename().string());
    if (step && entry.is_directory()) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  steps.erase(std::unique(steps.begin(), steps.end()), steps.end());
  return steps;
}

void write_checkpoint(const std::string& output, const TrainState& state, const Model& model, const AdamW& optimizer, int64_t keep) {
  const fs::path path = checkpoint_path(output, state.step);
  make_directories(path.parent_path().string());
  std::error_code ignored;
  // In the place of one that could not be read, or of the same step before its evaluation: the old one goes once the new one is complete.
  const bool replaces = fs::exists(path);
  const fs::path target = replaces ? staged_path(path) : path;
  if (replaces) fs::remove_all(target, ignored);
  write_directory_atomically(target.string(), [&](const std::string& folder) {
    write_safetensors(folder + "/model.safetensors", parameters_of(model));
    if (!state.best_weights.empty()) write_safetensors(folder + "/best.safetensors", state.best_weights);
    if (!state.averaged_weights.empty()) write_safetensors(folder + "/average.safetensors", state.averaged_weights);
    write_safetensors(folder + "/optimizer.safetensors", optimizer.state());
    write_file_atomically(folder + "/state.json", to_json(state).dump(2) + "\n");
  });
  if (replaces) replace_by_staged(path);
  int64_t kept = 0;
  for (const int64_t step : list_checkpoints(output)) {
    if (step > state.step || ++kept > keep) fs::remove_all(checkpoint_path(output, step), ignored);
  }
}

std::optional<TrainState> read_newest_checkpoint(const std::string& output, Model& model, AdamW& optimizer,
                                                 const std::function<void(const std::string&)>& note) {
  finish_replacements(output);
  remove_partial_files(fs::path(output));
  remove_partial_files(fs::path(output) / "checkpoints");
  std::string first_reason;
  for (const int64_t step : list_checkpoints(output)) {
    try {
      TrainState state = read_checkpoint(checkpoint_path(output, step), model, optimizer);
      ADATAPE_CHECK(state.step == step, checkpoint_path(output, step).string(), "expected the state of step ", step, ", got ", state.step);
      return state;
    } catch (const Error& error) {
      if (first_reason.empty()) first_reason = error.what();
      note(concat("passing over a damaged checkpoint: ", error.what()));
    }
  }
  ADATAPE_CHECK(first_reason.empty(), output, "no checkpoint can be read (", first_reason, "); remove ",
                (fs::path(output) / "checkpoints").string(), " and model.safetensors beside it to begin again");
  return std::nullopt;
}

}  // namespace adatape
