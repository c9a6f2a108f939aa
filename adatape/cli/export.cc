// `adatape export`: a model folder's weights as other programs read them.
#include <filesystem>
#include <iostream>
#include <memory>

#include "adatape/cli/command.h"
#include "adatape/convert/timm.h"
#include "adatape/core/check.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/version.h"

namespace adatape::cli {
namespace {

constexpr const char* kExportMore =
    "The way back of `adatape import`.\n"
    "timm: the state_dict of VisionTransformer as a safetensors file, of a model \"vit\" on images with exact GELU; the same bits. The "
    "call\n"
    "that makes the model in Python is printed; model.load_state_dict(safetensors.torch.load_file(FILE)) fills it.\n"
    "\n"
    "Example:\n"
    "  adatape export runs/vit --to timm --output vit.safetensors";

struct ExportArguments {
  std::string to, model, output;
};

int run_export(const ExportArguments& options) {
  ADATAPE_CHECK(!std::filesystem::exists(options.output), options.output,
                "expected a new file, found something there; choose another --output or remove it");
  const LoadedRun loaded = load_run(options.model, {}, at::kCPU, /*with_task=*/false);
  const auto* config = dynamic_cast<const TransformerConfig*>(loaded.config.model.get());
  ADATAPE_CHECK(config != nullptr && config->name == "vit", "export", "expected a model \"vit\", got \"", loaded.config.model->name,
                "\"; timm has no other model of ours");
  const NamedTensors tensors = to_timm(*config, *loaded.model);
  write_safetensors(options.output, tensors, {{"format", "pt"}, {"adatape_version", kVersion}});
  std::cout << options.output << ": " << tensors.size() << " tensors of " << timm_call(*config, loaded.config.task->input_spec()) << "\n";
  return 0;
}

}  // namespace

std::function<int()> declare_export(CLI::App& app) {
  auto options = std::make_shared<ExportArguments>();
  app.footer(kExportMore);
  app.add_option("model", options->model, "run or model folder")->required()->type_name("MODEL");
  app.add_option("--to", options->to, "whose names: timm")->required()->check(CLI::IsMember({"timm"}));
  app.add_option("--output", options->output, "file to make")->required()->type_name("FILE.safetensors");
  return [options] { return run_export(*options); };
}

}  // namespace adatape::cli
