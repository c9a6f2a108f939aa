// `adatape import`: published weights become a model folder.
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "adatape/cli/command.h"
#include "adatape/convert/flax_msgpack.h"
#include "adatape/convert/timm.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/utf8.h"
#include "adatape/models/registry.h"
#include "adatape/models/resample_positions.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/version.h"

namespace adatape::cli {
namespace {

constexpr const char* kImportMore =
    "The model folder (model.safetensors, config.toml) is one that evaluate and forward open.\n"
    "The configuration says what the weights are: a run configuration whose [task] and [model] fit them. Every parameter must be found\n"
    "in the weights with the right shape, and every tensor of the weights must have a place; the first that does not is named. Position\n"
    "embeddings of another image size are resampled (bicubic, anti-aliased).\n"
    "\n"
    "Examples:\n"
    "  adatape import --from scenic adatape_b16.toml checkpoint.msgpack --output models/adatape\n"
    "  adatape import --from timm vit.toml model.safetensors --output models/vit       with name = \"vit_small_patch16_224\" in [model]\n"
    "  adatape import --from transformers configs/text/published/gpt2.toml model.safetensors --output models/gpt2";

struct ImportArguments {
  std::string from, config, weights, output;
  std::vector<std::string> assignments;
};

// Positions of weights for another size of image become those of ours. Returns how many tensors did.
int64_t fit_all_positions(const std::vector<WeightPiece>& pieces, const Model& model, const InputSpec& input, NamedTensors& source) {
  int64_t changed = 0;
  for (const WeightPiece& piece : pieces) {
    at::Tensor& tensor = source.at(piece.source);
    if (!piece.ours.ends_with(".positions") || tensor.dim() != 3 || tensor.size(0) != 1) continue;
    const at::Tensor fitted = fit_positions(tensor[0], piece.ours, model, input);
    if (fitted.size(0) != tensor.size(1)) ++changed;
    tensor = fitted.unsqueeze(0);
  }
  return changed;
}

int run_import(const ImportArguments& options) {
  namespace fs = std::filesystem;
  ADATAPE_CHECK(!fs::exists(options.output), options.output,
                "expected a new folder, found something there; choose another --output or remove it");
  ConfigDocument document = ConfigDocument::from_file(options.config);
  for (const std::string& assignment : options.assignments) document.set(assignment);
  RunConfig config = RunConfig::from_document(document);
  const bool msgpack = fs::path(options.weights).extension() == ".msgpack";
  NamedTensors source = msgpack ? read_flax_msgpack(options.weights) : read_safetensors(options.weights).tensors;
  const std::shared_ptr<Model> model = find_model(config.model->name).make_model(*config.model, config.task->input_spec());
  if (options.from == "timm") {
    const auto* encoder = dynamic_cast<const EncoderConfig*>(config.model.get());
    ADATAPE_CHECK(encoder != nullptr, "import", "model.name: expected a model that has a ViT's weights, got \"", config.model->name, "\"");
    check_timm_config(*encoder, source);
  }
  const std::vector<WeightPiece> pieces = options.from == "timm"           ? timm_pieces(source, *model)
                                          : options.from == "transformers" ? transformers_pieces(source, *model)
                                                                           : scenic_pieces(source, *model);
  const int64_t resampled = fit_all_positions(pieces, *model, config.task->input_spec(), source);
  NamedTensors ours = to_ours(pieces, source, *model);
  load_parameters(*model, ours, options.weights);

  write_directory_atomically(options.output, [&](const std::string& folder) {
    write_safetensors(folder + "/model.safetensors", ours,
                      {{"version", kVersion}, {"imported_from", printable(fs::path(options.weights).filename().string())}});
    write_file_atomically(folder + "/config.toml", config.to_toml());
    const nlohmann::ordered_json record = {{"command", command_line()}, {"version", kVersion}, {"torch", torch_version()}};
    write_file_atomically(folder + "/run.json", json_text(record, 2) + "\n");
  });
  int64_t parameters = 0;
  for (const auto& [name, tensor] : ours) parameters += tensor.numel();
  std::cout << options.output << ": " << config.model->name << " with " << parameters << " parameters from " << source.size() << " tensors"
            << (resampled > 0 ? "; positions resampled to this image size" : "") << "\n";
  return 0;
}

}  // namespace

std::function<int()> declare_import(CLI::App& app) {
  auto options = std::make_shared<ImportArguments>();
  app.footer(kImportMore);
  app.add_option("--from", options->from,
                 "where the weights come from: scenic (Flax: AdaTape, Universal Transformer, ViT), timm (state_dict of a ViT or DeiT; also "
                 "for A-ViT, which has their weights) or transformers (Hugging Face: GPT-2, T5)")
      ->required()
      ->check(CLI::IsMember({"scenic", "timm", "transformers"}));
  app.add_option("config", options->config, "configuration that fits the weights")->required()->type_name("CONFIG.toml");
  app.add_option(
         "weights", options->weights,
         "scenic: Flax checkpoint (.msgpack), or its tensors with names joined by / (.safetensors); timm, transformers: .safetensors")
      ->required()
      ->type_name("WEIGHTS");
  app.add_option("--output", options->output, "model folder to make")->required()->type_name("MODEL");
  app.add_option("--set", options->assignments, "change a configuration key")->type_name("KEY=VALUE")->allow_extra_args(false);
  return [options] { return run_import(*options); };
}

}  // namespace adatape::cli
