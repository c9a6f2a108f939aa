// adatape train CONFIG.toml: trains into a run folder, or goes on with one.
#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"
#include "adatape/models/encoder_config.h"
#include "adatape/models/registry.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/run_record.h"
#include "adatape/train/trainer.h"

namespace adatape::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTrainMore =
    "The run folder holds the best weights (model.safetensors), the resolved config.toml, metrics.jsonl, TensorBoard events,\n"
    "checkpoints and, at the end, result.json with the test results. Ctrl-C saves; a resumed run gives the same bits as one\n"
    "that was never stopped.\n"
    "\n"
    "Examples:\n"
    "  adatape train configs/parity/adatape.toml\n"
    "  adatape train configs/parity/adatape.toml --set training.steps=200 --set task.length=16 --output runs/short --seed 3\n"
    "  adatape train --output runs/short --resume";

struct TrainArguments {
  std::string config, output, device = "auto";
  std::vector<std::string> assignments;
  std::optional<int64_t> seed;
  int threads = 0;
  bool resume = false, quiet = false, verbose = false;
};

// "; did you mean A or B?": configurations of the folder whose names begin like the one that is missing, or the one with the nearest name.
std::string near_configurations(const fs::path& missing) {
  std::vector<std::string> names, near;
  std::error_code code;
  const fs::path folder = missing.has_parent_path() ? missing.parent_path() : fs::path(".");
  for (fs::directory_iterator each(folder, code), end; !code && each != end; each.increment(code)) {
    if (each->path().extension() == ".toml") names.push_back(each->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  const std::string stem = missing.stem().string();
  std::copy_if(names.begin(), names.end(), std::back_inserter(near), [&](const std::string& name) { return name.starts_with(stem); });
  if (const std::string name = nearest_word(missing.filename().string(), names); near.empty() && !name.empty()) near.push_back(name);
  std::string hint;
  for (size_t i = 0; i < near.size(); ++i) {
    hint += i == 0 ? "; did you mean " : i + 1 < near.size() ? ", " : " or ";
    hint += missing.has_parent_path() ? (missing.parent_path() / near[i]).string() : near[i];
  }
  return hint.empty() ? "" : hint + "?";
}

// What the model never sees where patches do not fill the picture; "" where they do.
std::string unseen_border(const ModelConfig& model, const InputSpec& input) {
  const auto* encoder = dynamic_cast<const EncoderConfig*>(&model);
  if (input.kind != InputSpec::Kind::kImages || encoder == nullptr || encoder->stem.input != "patches") return "";
  const int64_t patch = encoder->stem.patch, rows = input.height % patch, columns = input.width % patch;
  if (rows == 0 && columns == 0) return "";
  return concat("pictures of ", input.height, " x ", input.width, " are no multiple of patches of ", patch, " x ", patch, ": the last ",
                rows, " rows and ", columns, " columns are never seen; choose task.height and task.width to fit model.patch");
}

int train(const TrainArguments& arguments) {
  ADATAPE_CHECK(!arguments.config.empty() || arguments.resume, "train", "expected a configuration file; only --resume goes without one");
  ADATAPE_CHECK(!arguments.config.empty() || !arguments.output.empty(), "train",
                "--resume without a configuration file needs --output DIR, the run to go on with");
  const std::string output = !arguments.output.empty() ? arguments.output : "runs/" + fs::path(arguments.config).stem().string();
  std::string config_path = arguments.config;
  if (config_path.empty()) {
    ADATAPE_CHECK(fs::is_directory(output), output, "no such folder, so there is no run to resume");
    config_path = output + "/config.toml";
    ADATAPE_CHECK(fs::exists(config_path), output, "config.toml is missing, so there is no run to resume; name the configuration file");
  }
  ADATAPE_CHECK(fs::exists(config_path), "cannot read " + config_path, "No such file or directory", near_configurations(config_path));
  ConfigDocument document = ConfigDocument::from_file(config_path);
  for (const std::string& assignment : arguments.assignments) document.set(assignment);
  if (arguments.seed) document.set(concat("training.seed=", *arguments.seed));
  RunConfig config = RunConfig::from_document(document);

  if (inspect_output(output, config, arguments.resume) == OutputState::kFinished) {
    const std::string summary = summarize_result(read_result(output));
    std::cout << output << " is finished; its results are in result.json:\n" << summary;
    return 0;
  }
  if (arguments.threads > 0) at::set_num_threads(arguments.threads);
  const c10::Device device = parse_device(arguments.device);
  const KernelReport report(device, /*asked=*/device.is_cuda(), arguments.verbose);
  const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
  const std::shared_ptr<Model> model = find_model(config.model->name).make_model(*config.model, task->input_spec());
  if (!arguments.quiet) {
    double parameters = 0;
    for (const auto& [name, tensor] : parameters_of(*model)) parameters += static_cast<double>(tensor.numel());
    std::cerr << "adatape: training " << for_terminal(config.label) << " (" << format_count(parameters) << " parameters) on "
              << config.task->name << ", " << device << ", " << at::get_num_threads() << " threads, into " << output << std::endl;
  }
  const std::vector<std::string> notes = task->notes();
  const auto tell = [&](const std::string& note) {
    if (!arguments.quiet) std::cerr << "adatape: " << for_terminal(note) << std::endl;
  };
  if (const auto* pictures = dynamic_cast<const ImageClassificationTask*>(task.get())) tell(pictures->describe_data());
  if (const std::string unseen = unseen_border(*config.model, task->input_spec()); !unseen.empty()) tell(unseen);
  for (const std::string& note : notes) tell(note);
  install_stop_handlers();  // until here nothing is lost by ending at once
  Trainer trainer(config, *task, *model,
                  {.output = output, .command = command_line(), .device = device, .resume = arguments.resume, .quiet = arguments.quiet});
  const nlohmann::ordered_json result = trainer.run();
  for (const std::string& note : task->notes()) {
    if (std::find(notes.begin(), notes.end(), note) == notes.end()) tell(note);
  }
  std::cout << summarize_result(result) << "  results              " << output << "/result.json\n";
  return 0;
}

}  // namespace

std::function<int()> declare_train(CLI::App& app) {
  auto arguments = std::make_shared<TrainArguments>();
  app.footer(kTrainMore);
  app.add_option("CONFIG", arguments->config, "configuration (TOML); `adatape list options` has all keys");
  app.add_option("--set", arguments->assignments, "change a key, e.g. model.width=64 (may be repeated)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--output,-o", arguments->output, "run folder [runs/ and the configuration's name]")->type_name("DIR");
  app.add_flag("--resume", arguments->resume, "go on with the run in --output; CONFIG may then be left out");
  app.add_option("--device", arguments->device, "auto, cpu, cuda or cuda:N; auto takes a GPU where there is one")
      ->type_name("NAME")
      ->capture_default_str();
  // CLI11 turns a number too large into the largest: that one is out of range.
  app.add_option("--seed", arguments->seed, "the same as --set training.seed=N")
      ->type_name("N")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max() - 1).description(""));
  app.add_option("--threads", arguments->threads, "CPU threads [all cores]; results are the same bits for the same number")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--verbose", arguments->verbose, KernelReport::kHelp);
  app.add_flag("--quiet,-q", arguments->quiet, "no progress on stderr");
  return [arguments] { return train(*arguments); };
}

}  // namespace adatape::cli
