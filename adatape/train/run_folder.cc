#include "adatape/train/run_folder.h"

#include <filesystem>
#include <optional>

#include "adatape/core/check.h"
#include "adatape/core/safetensors.h"
#include "adatape/models/registry.h"
#include "adatape/models/resample_positions.h"
#include "adatape/train/load_tensors.h"

namespace adatape {

namespace {

// What a stored configuration's task gives a model; nothing where it needs data that is no longer there, which an override may put right.
std::optional<InputSpec> input_of(const ConfigDocument& document) {
  try {
    return RunConfig::from_document(document).task->input_spec();
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

std::map<std::string, at::Tensor> parameters_of(const Model& model) {
  std::map<std::string, at::Tensor> parameters;
  for (const auto& [name, tensor] : model.named_parameters()) parameters[name] = tensor.detach();
  return parameters;
}

void load_parameters(Model& model, const std::map<std::string, at::Tensor>& tensors, const std::string& source) {
  load_tensors(parameters_of(model), tensors, source);
}

LoadedRun load_run(const std::string& folder, const std::vector<std::string>& overrides, at::Device device, bool with_task) {
  namespace fs = std::filesystem;
  const fs::path root(folder);
  ADATAPE_CHECK(fs::is_directory(root), folder, "expected a run or model folder, found ", fs::exists(root) ? "a file" : "nothing there");
  const std::string config_path = (root / "config.toml").string();
  const std::string weights_path = (root / "model.safetensors").string();
  ADATAPE_CHECK(fs::exists(config_path), folder,
                "expected a run or model folder with config.toml and model.safetensors; config.toml is missing");
  ADATAPE_CHECK(fs::exists(weights_path), folder,
                "model.safetensors is missing: the run has saved no weights yet; wait, or go on with "
                "`adatape train --output ",
                folder, " --resume`");

  ConfigDocument document = ConfigDocument::from_file(config_path);
  const std::optional<InputSpec> trained =
      overrides.empty() ? std::nullopt : input_of(document);  // an override may change the images' size
  for (const std::string& assignment : overrides) document.set(assignment);
  LoadedRun run;
  run.folder = folder;
  run.config = RunConfig::from_document(document);
  run.model = find_model(run.config.model->name).make_model(*run.config.model, run.config.task->input_spec());
  NamedTensors weights = read_safetensors(weights_path).tensors;
  for (auto& [name, tensor] : weights) {
    if (overrides.empty() || !name.ends_with(".positions")) continue;
    tensor = fit_positions(tensor, name, *run.model, run.config.task->input_spec(), trained ? &*trained : nullptr);
  }
  load_parameters(*run.model, weights, weights_path);
  run.model->to(device);
  if (with_task) run.task = find_task(run.config.task->name).make_task(*run.config.task);
  return run;
}

}  // namespace adatape
