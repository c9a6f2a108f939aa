// `adatape import`: published weights become a model folder.
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "adatape/cli/command.h"
#include "adatape/convert/flax_msgpack.h"
#include "adatape/convert/weight_map.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/models/registry.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/run_record.h"
#include "adatape/train/version.h"

namespace adatape::cli {
namespace {

struct Options {
  std::string from, config, weights, output;
  std::vector<std::string> assignments;
};

int run(const Options& options) {
  namespace fs = std::filesystem;
  ADATAPE_CHECK(!fs::exists(options.output), options.output,
                "expected a new folder, found something there; choose another --output or remove it");
  ConfigDocument document = ConfigDocument::from_file(options.config);
  for (const std::string& assignment : options.assignments) document.set(assignment);
  RunConfig config = RunConfig::from_document(document);
  const bool msgpack = fs::path(options.weights).extension() == ".msgpack";
  NamedTensors source = msgpack ? read_flax_msgpack(options.weights) : read_safetensors(options.weights).tensors;
  const std::shared_ptr<Model> model = find_model(config.model->name).make_model(*config.model, config.task->input_spec());
  const bool text = options.from == "transformers";
  NamedTensors ours = to_ours(text ? transformers_pieces(source, *model) : scenic_pieces(source, *model), source, *model);
  load_parameters(*model, ours, options.weights);

  const std::string command = concat("adatape import --from ", options.from, " ", shell_quote(options.config), " ",
                                     shell_quote(options.weights), " --output ", shell_quote(options.output));
  write_directory_atomically(options.output, [&](const std::string& folder) {
    write_safetensors(folder + "/model.safetensors", ours,
                      {{"version", kVersion}, {"imported_from", fs::path(options.weights).filename().string()}});
    write_file_atomically(folder + "/config.toml", config.to_toml());
    write_file_atomically(folder + "/run.json",
                          nlohmann::ordered_json{{"command", command}, {"version", kVersion}, {"torch", torch_version()}}.dump(2) + "\n");
  });
  int64_t parameters = 0;
  for (const auto& [name, tensor] : ours) parameters += tensor.numel();
  std::cout << options.output << ": " << config.model->name << " with " << parameters << " parameters from " << source.size()
            << " tensors\n";
  return 0;
}

}  // namespace

std::function<int()> declare_import(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.description(
      "Turns published weights into a model folder (model.safetensors, config.toml) that evaluate and forward open.\n"
      "The configuration says what the weights are: a run configuration whose [task] and [model] fit them. Every parameter must be found in the\n"
      "weights with the right shape, and every tensor of the weights must have a place; the first that does not is named.");
  app.add_option("--from", options->from,
                 "where the weights come from: scenic (Flax: AdaTape, Universal Transformer, ViT), transformers (Hugging Face: GPT-2, T5)")
      ->required()
      ->check(CLI::IsMember({"scenic", "transformers"}));
  app.add_option("config", options->config, "configuration that fits the weights")->required()->type_name("CONFIG.toml");
  app.add_option("weights", options->weights, "Flax checkpoint (.msgpack), its tensors with names joined by /, or those of transformers (.safetensors)")
      ->required()
      ->type_name("WEIGHTS");
  app.add_option("--output", options->output, "model folder to make")->required()->type_name("MODEL");
  app.add_option("--set", options->assignments, "change a configuration key")->type_name("KEY=VALUE")->allow_extra_args(false);
  app.footer(
      "Examples:\n"
      "  adatape import --from scenic configs/images/adatape.toml checkpoint.msgpack --output models/adatape\n"
      "  adatape import --from transformers gpt2.toml model.safetensors --set model.size=gpt2 --output models/gpt2");
  return [options] { return run(*options); };
}

}  // namespace adatape::cli
