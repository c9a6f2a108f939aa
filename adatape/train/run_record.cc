#include "adatape/train/run_record.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"
#include "adatape/core/utf8.h"
#include "adatape/train/config_difference.h"
#include "adatape/train/version.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

void check_nothing_is_lost(const std::string& output) {
  ADATAPE_CHECK(
      can_resume(output), output,
      "expected a checkpoint to go on from, found model.safetensors alone (an imported model, or a run whose checkpoints were "
      "removed), which training from step 0 would overwrite; choose another --output, or remove model.safetensors to begin again");
}

}  // namespace

OutputState inspect_output(const std::string& output, RunConfig& config, bool resume) {
  const fs::path folder(output);
  ADATAPE_CHECK(!fs::exists(folder) || fs::is_directory(folder), output, "expected a folder for the run, found a file");
  bool holds_run = false;
  for (const char* name : {"config.toml", "run.json", "metrics.jsonl", "model.safetensors", "result.json", "checkpoints"}) {
    holds_run = holds_run || fs::exists(folder / name);
  }
  if (!resume) {
    ADATAPE_CHECK(!holds_run, output,
                  can_resume(output) || fs::exists(folder / "result.json")
                      ? "holds a run already; go on with it by --resume, or choose another --output"
                      : "holds a model already; choose another --output");
    return OutputState::kFresh;
  }
  ADATAPE_CHECK(fs::exists(folder), output, "no such folder, so there is no run to resume; leave --resume away to begin one");
  if (!fs::exists(folder / "config.toml")) {
    ADATAPE_CHECK(!holds_run || list_checkpoints(output).empty(), output, "config.toml is missing, so the run cannot be resumed");
    check_nothing_is_lost(output);
    return OutputState::kFresh;
  }
  RunConfig before = RunConfig::from_document(ConfigDocument::from_file((folder / "config.toml").string()));
  if (const auto difference = first_difference(before, config)) {
    throw Error(concat(output, ": the run was begun with ", difference->key, " = ", difference->before, ", now it is ", difference->after,
                       "; resume with the same configuration, or choose another --output"));
  }
  if (fs::exists(folder / "result.json")) return OutputState::kFinished;
  check_nothing_is_lost(output);
  return OutputState::kUnfinished;
}

bool can_resume(const std::string& output) {
  return !fs::exists(fs::path(output) / "model.safetensors") || !list_checkpoints(output).empty();
}

std::string why_without_result(const std::string& output) {
  return can_resume(output)
             ? "it has no result.json, so it is unfinished"
             : "it has no result.json and no checkpoint, so it is no run: an imported model, or one of which only the model was kept";
}

FolderLock::FolderLock(const std::string& folder) : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  ADATAPE_CHECK(descriptor_ >= 0, folder, "cannot open the folder: ", std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {  // file systems without locks are taken at their word
    ::close(descriptor_);
    throw Error(concat(folder, ": another process is training into this folder; wait for it, or choose another --output"));
  }
}

FolderLock::~FolderLock() { ::close(descriptor_); }

std::string write_run_json(const std::string& output, const std::string& command, int64_t seed, at::Device device,
                           std::optional<int64_t> resumed_at_step) {
  const std::string path = output + "/run.json";
  const int threads = at::get_num_threads();
  ordered_json run = {{"command", command},  {"version", kVersion},    {"torch_version", torch_version()},
                      {"seed", seed},        {"device", device.str()}, {"threads", threads},
                      {"started", utc_now()}};
  std::string remark;
  if (resumed_at_step) {
    ordered_json first = ordered_json::object();
    if (fs::exists(path)) first = ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
    if (first.is_object() && first.contains("device") && first.contains("threads")) {
      const bool same = first["threads"] == threads && first["device"] == device.str();
      if (!same) {
        remark = concat("this run began with ", first["threads"].dump(), " threads on ", first["device"].dump(), ", now it has ", threads,
                        " on ", device.str(), ": the last bits of its numbers may differ");
      }
      run.erase("version");
      run["step"] = *resumed_at_step;
      ordered_json& resumed = first["resumed"];
      if (!resumed.is_array()) resumed = ordered_json::array();
      resumed.push_back(run);
      run = first;
    }
  }
  write_file_atomically(path, json_text(run, 2) + "\n");
  return remark;
}

ordered_json accuracy_by_covariate(const EvaluationResult& result) {
  ordered_json groups = ordered_json::array();
  for (const CovariateGroup& group : result.by_covariate) {
    groups.push_back({{"value", group.value}, {"examples", group.examples}, {"accuracy", group.accuracy}});
  }
  return {{"covariate", result.covariate}, {"groups", groups}};
}

void add_classification(ordered_json& row, const ClassificationMetrics& metrics) {
  if (metrics.classes() == 0) return;
  row["top5_accuracy"] = metrics.top5_accuracy();
  row["calibration_error"] = metrics.calibration_error();
  if (!metrics.confusion().empty()) row["confusion"] = metrics.confusion();
}

ordered_json where_they_apply(const EvaluationResult& result) {
  ordered_json extra = ordered_json::object();
  if (result.steps) extra["mean_steps"] = *result.steps;
  if (result.answer_accuracy) extra["answer_accuracy"] = *result.answer_accuracy;
  for (const auto& [name, value] : result.described) extra["described"][name] = value;
  for (const auto& block : result.experts)
    extra["experts"].push_back({{"part", block.part}, {"served", block.served}, {"dropped", block.dropped}});
  return extra;
}

ordered_json make_result(const RunConfig& config, const TrainState& state, const EvaluationResult& test, int64_t parameters,
                         at::Device device, const std::string& command) {
  ordered_json history = ordered_json::array();
  for (const DrawRecord& draw : state.draws) {
    history.push_back({{"steps", draw.steps}, {"seconds", draw.seconds}, {"validation_accuracy", draw.validation_accuracy}});
  }
  ordered_json row = {{"model", config.label},
                      {"model_name", config.model->name},
                      {"task", config.task->name},
                      {"seed", config.training.seed},
                      {"accuracy", test.accuracy},
                      {"loss", test.loss},
                      {"validation_accuracy", state.best_accuracy},
                      {"validation_loss", state.best_loss},
                      {"steps", state.step},
                      {"draws", state.draws.size()},
                      {"draw_history", history},
                      {"training_seconds", state.training_seconds},
                      {"wall_seconds", state.wall_seconds},
                      {"learning_rate", config.training.learning_rate},
                      {"parameters", parameters},
                      {"tape_length_mean", test.tape_length_mean},
                      {"tape_length_std", test.tape_length_std},
                      {"tokens", test.tokens},
                      {"token_steps", test.token_steps},
                      {"block_tokens", test.block_tokens},
                      {"flops", test.flops},
                      {"examples_per_second", test.examples_per_second},
                      {"test_examples", test.examples},
                      {"accuracy_by_covariate", accuracy_by_covariate(test)},
                      {"best_step", state.best_step},
                      {"waited_for_data_seconds", state.waited_for_data_seconds},
                      {"device", device.str()},
                      {"threads", at::get_num_threads()},
                      {"version", kVersion},
                      {"command", command},
                      {"description", config.description}};
  add_classification(row, test.classification);
  row.update(where_they_apply(test));
  return row;
}

std::string summarize_result(const ordered_json& result) {
  // JSON has no NaN: it was written as null.
  const auto number = [&](const char* key) { return result.at(key).is_number() ? result.at(key).get<double>() : std::nan(""); };
  const auto draws = result.at("draws").get<int64_t>();
  std::string text;
  const auto line = [&](const std::string& name, const std::string& value) {
    // Words of a configuration, which may be someone else's.
    text += concat("  ", for_terminal(name), std::string(name.size() < 21 ? 21 - name.size() : 1, ' '), for_terminal(value), "\n");
  };
  line("model", concat(result.at("model").get<std::string>(), " on ", result.at("task").get<std::string>(), ", seed ",
                       result.at("seed").dump(), ", ", format_count(number("parameters")), " parameters"));
  line("test accuracy", concat(percent_text(number("accuracy")), " of ", result.at("test_examples").dump(), " examples, loss ",
                               number_text("%.4g", number("loss"))));
  if (result.contains("answer_accuracy")) line("answers right", percent_text(number("answer_accuracy")));
  if (result.contains("described")) {
    for (const auto& [name, value] : result["described"].items())
      line(name, number_text("%.4f", value.is_number() ? value.get<double>() : std::nan("")));
  }
  line("validation accuracy", concat(percent_text(number("validation_accuracy")), " at step ", result.at("best_step").dump()));
  line("steps", draws == 1 ? result.at("steps").dump() : concat(result.at("steps").dump(), " in ", draws, " draws of the weights"));
  const double waited = number("waited_for_data_seconds") / std::max(number("training_seconds"), 1e-9);
  line("training time", concat(format_duration(number("training_seconds")), " (", number_text("%.1f %%", 100 * waited),
                               " waiting for data), ", format_duration(number("wall_seconds")), " with evaluations and saving"));
  std::string tokens = concat(number_text("%.1f", number("tokens")), " an example");
  if (number("tape_length_mean") > 0) {
    tokens += concat(", of these on tape ", number_text("%.2f", number("tape_length_mean")), " +- ",
                     number_text("%.2f", number("tape_length_std")));
  }
  line("tokens", tokens);
  if (result.contains("mean_steps")) line("steps of halting", concat(number_text("%.2f", number("mean_steps")), " on average"));
  line("cost", concat(format_count(number("flops"), "FLOPs"), " an example, ", format_count(number("examples_per_second")),
                      " examples/s on ", result.at("device").get<std::string>(), " (", result.at("threads").dump(), " threads)"));
  return text;
}

ordered_json read_result(const std::string& output) {
  const std::string path = (fs::path(output) / "result.json").string();
  try {
    ordered_json result = ordered_json::parse(read_file(path));
    summarize_result(result);  // throws where something is missing that it shows
    return result;
  } catch (const ordered_json::exception& error) {
    throw Error(concat(path, ": expected the results of a finished run, got something else (", error.what(),
                       "); remove the file and resume: the test is then taken again"));
  }
}

std::string shell_quote(const std::string& word) {
  const char* harmless = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  if (!word.empty() && word.find_first_not_of(harmless) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char letter : word) quoted += letter == '\'' ? std::string("'\\''") : std::string(1, letter);
  return quoted + "'";
}

}  // namespace adatape
