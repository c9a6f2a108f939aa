#include "adatape/analysis/results.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <set>

#include "adatape/analysis/curves.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/train/run_config.h"
#include "adatape/train/version.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Typed access to result.json; the Error names file, key and what came.
class ResultReader {
 public:
  ResultReader(const ordered_json& result, std::string path) : result_(result), path_(std::move(path)) {}
  double number(const char* key) const {
    const ordered_json& value = at(key);
    if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();  // how JSON writes NaN
    expect(value.is_number(), key, "a number", value);
    return value.get<double>();
  }
  int64_t integer(const char* key) const {
    expect(at(key).is_number_integer(), key, "an integer", at(key));
    return at(key).get<int64_t>();
  }
  std::string text(const char* key) const {
    expect(at(key).is_string(), key, "text", at(key));
    return at(key).get<std::string>();
  }
  void check_draws() const {
    const ordered_json& draws = at("draw_history");
    expect(draws.is_array(), "draw_history", "a list", draws);
    for (const ordered_json& draw : draws) {
      expect(draw.is_object(), "draw_history", "a list of objects", draws);
      for (const char* key : {"steps", "seconds", "validation_accuracy"}) {
        expect(draw.contains(key) && (draw[key].is_number() || draw[key].is_null()), "draw_history", concat("numbers as \"", key, "\""),
               draw);
      }
    }
  }

 private:
  const ordered_json& at(const char* key) const {
    ADATAPE_CHECK(result_.contains(key), path_, "expected the key \"", key, "\" that adatape train writes, found none");
    return result_.at(key);
  }
  void expect(bool good, const char* key, const std::string& what, const ordered_json& came) const {
    ADATAPE_CHECK(good, path_, key, ": expected ", what, ", got ",
                  came.dump(-1, ' ', true, ordered_json::error_handler_t::replace).substr(0, 80));
  }
  const ordered_json& result_;
  const std::string path_;
};

// Errors of a configuration name the key; among many runs the file matters as much.
RunConfig read_config(const std::string& text, const std::string& path) {
  try {
    return RunConfig::from_document(ConfigDocument::from_text(text, path));
  } catch (const Error& error) {
    const std::string message = error.what();
    throw Error(message.find(path) == std::string::npos ? concat(path, ": ", message) : message);
  }
}

// Older versions wrote it to metrics.jsonl alone.
double validation_loss_of(const ordered_json& result, const std::string& folder) {
  if (result.contains("validation_loss") && result["validation_loss"].is_number()) return result["validation_loss"].get<double>();
  for (const CurvePoint& point : read_curves(folder).validation_loss) {
    if (result.contains("best_step") && result["best_step"] == point.step) return point.value;
  }
  return std::numeric_limits<double>::quiet_NaN();
}

FinishedRun read_finished(const std::string& folder) {
  const fs::path root(folder);
  FinishedRun run;
  run.folder = folder;
  const std::string config_path = (root / "config.toml").string();
  run.config_toml = read_file(config_path);
  RunConfig config = read_config(run.config_toml, config_path);
  run.images = config.task->input_spec().kind == InputSpec::Kind::kImages;
  run.goal = config.goal;
  run.published = config.published;
  config.training.seed = 0;
  config.training.learning_rate = 1;
  run.sameness = config.to_toml();

  const std::string path = (root / "result.json").string();
  run.result = ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  ADATAPE_CHECK(run.result.is_object(), path, "expected one JSON object, as adatape train writes it");
  const ResultReader read(run.result, path);
  run.model = read.text("model");
  run.model_name = read.text("model_name");
  run.task = read.text("task");
  run.description = read.text("description");
  for (const char* key : {"command", "version", "device"}) read.text(key);
  run.seed = read.integer("seed");
  run.steps = read.integer("steps");
  run.draws = read.integer("draws");
  run.test_examples = read.integer("test_examples");
  for (const char* key : {"threads", "parameters"}) read.integer(key);
  run.learning_rate = read.number("learning_rate");
  run.accuracy = read.number("accuracy");
  run.validation_accuracy = read.number("validation_accuracy");
  run.validation_loss = validation_loss_of(run.result, folder);
  run.training_seconds = read.number("training_seconds");
  run.tape_length_mean = read.number("tape_length_mean");
  run.tape_length_std = read.number("tape_length_std");
  run.tokens = read.number("tokens");
  run.flops = read.number("flops");
  run.examples_per_second = read.number("examples_per_second");
  read.check_draws();
  return run;
}

Role role_of(const FinishedRun& run) {
  if (run.model.starts_with("control_")) return Role::kControl;
  return run.model_name == "adatape" || run.model.starts_with("adatape") ? Role::kAdaptive : Role::kBaseline;
}

// As the trainer chooses among evaluations: by accuracy, at a tie by loss. (Whole windows of text are never right, so there it is always a
// tie.)
bool better(const FinishedRun& a, const FinishedRun& b) {
  const auto accuracy = [](const FinishedRun& run) { return std::isnan(run.validation_accuracy) ? -1 : run.validation_accuracy; };
  if (accuracy(a) != accuracy(b)) return accuracy(a) > accuracy(b);
  return a.validation_loss < b.validation_loss || (std::isnan(b.validation_loss) && !std::isnan(a.validation_loss));
}

SeedRuns choose(std::vector<const FinishedRun*> tried) {
  std::stable_sort(tried.begin(), tried.end(),
                   [](const FinishedRun* a, const FinishedRun* b) { return a->learning_rate < b->learning_rate; });
  SeedRuns seed;
  seed.tried = tried;
  for (const FinishedRun* run : tried) {
    if (seed.chosen == nullptr || better(*run, *seed.chosen)) seed.chosen = run;
  }
  return seed;
}

std::string folder_name(const std::string& folder) {
  const fs::path path = fs::path(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

RunFolders read_run_folders(const std::vector<std::string>& folders) {
  RunFolders result;
  std::set<std::string> seen;
  for (const std::string& folder : folders) {
    const fs::path root(folder);
    ADATAPE_CHECK(fs::is_directory(root), folder, "expected a run folder, found ", fs::exists(root) ? "a file" : "nothing there");
    ADATAPE_CHECK(fs::exists(root / "config.toml"), folder,
                  "expected a run folder as adatape train writes it; it has no config.toml, so it is not a run: leave it out");
    if (!seen.insert(fs::weakly_canonical(root).string()).second) continue;
    if (fs::exists(root / "result.json")) {
      result.finished.push_back(read_finished(folder));
    } else {
      result.unfinished.push_back(folder);
    }
  }
  return result;
}

std::vector<double> over_seeds(const ComparedModel& model, double FinishedRun::*number) {
  std::vector<double> numbers;
  for (const SeedRuns& seed : model.seeds) numbers.push_back(seed.chosen->*number);
  return numbers;
}

std::vector<ComparedModel> gather(const std::vector<FinishedRun>& runs) {
  struct Group {
    std::string label, sameness;
    int repeat;
    std::map<int64_t, std::vector<const FinishedRun*>> seeds;
  };
  std::vector<Group> groups;
  std::map<std::string, int> repeats;  // of label, configuration, seed and learning rate
  for (const FinishedRun& run : runs) {
    const int repeat = repeats[concat(run.model, '\n', run.sameness, '\n', run.seed, ' ', run.result.at("learning_rate").dump())]++;
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& candidate) {
      return candidate.label == run.model && candidate.sameness == run.sameness && candidate.repeat == repeat;
    });
    if (group == groups.end()) group = groups.insert(groups.end(), {run.model, run.sameness, repeat, {}});
    group->seeds[run.seed].push_back(&run);
  }
  std::vector<ComparedModel> models;
  for (const Group& group : groups) {
    ComparedModel model;
    for (const auto& [seed, tried] : group.seeds) {
      model.seeds.push_back(choose(tried));
      model.learning_rates = std::max(model.learning_rates, tried.size());
    }
    model.role = role_of(model.first());
    const auto same_label = std::count_if(groups.begin(), groups.end(), [&](const Group& other) { return other.label == group.label; });
    model.name = same_label == 1 ? group.label : concat(group.label, " (", folder_name(model.first().folder), ")");
    models.push_back(std::move(model));
  }
  std::stable_sort(models.begin(), models.end(), [](const ComparedModel& a, const ComparedModel& b) { return a.role < b.role; });
  return models;
}

ordered_json results_json(const std::vector<ComparedModel>& models, const std::string& command) {
  ordered_json rows = ordered_json::array();
  for (const ComparedModel& model : models) {
    for (const SeedRuns& seed : model.seeds) {
      ordered_json row = seed.chosen->result;
      row["folder"] = seed.chosen->folder;
      if (seed.chosen->images) row["images_per_second"] = row["examples_per_second"];
      ordered_json& rates = row["learning_rates"] = ordered_json::array();
      for (const FinishedRun* run : seed.tried) {
        rates.push_back({{"learning_rate", run->result.at("learning_rate")},
                         {"validation_accuracy", run->result.at("validation_accuracy")},
                         {"accuracy", run->result.at("accuracy")}});
        if (!std::isnan(run->validation_loss)) rates.back()["validation_loss"] = run->validation_loss;
      }
      rows.push_back(std::move(row));
    }
  }
  return {{"command", command}, {"version", kVersion}, {"runs", rows}};
}

}  // namespace adatape
