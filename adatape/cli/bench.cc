// adatape bench models: how fast models of published sizes are, side by side.
#include <ATen/Parallel.h>

#include <algorithm>
#include <iostream>

#include "adatape/analysis/model_speed.h"
#include "adatape/analysis/report.h"
#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/cli/output_folder.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/core/json_text.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"

namespace adatape::cli {
namespace {

constexpr const char* kBenchMore =
    "Each model is drawn at random, run once to count its work, then --repeats times by the clock (with --threads 1 by the\n"
    "processor's time, which a busy machine does not stretch); the median counts. Models that halt by depth are made to: A-ViT as its\n"
    "published FLOPs say, Universal Transformers, of whom no mean is published, at depths spread evenly.\n"
    "AdaTape reads as long a tape as random weights make it read.\n"
    "Writes into --output: report.html (one file that opens offline) and results.json.\n"
    "\n"
    "Examples:\n"
    "  adatape bench models                                       all families, tiny, small and base, patches of 16 and 32\n"
    "  adatape bench models --families adatape,vit --sizes small --patches 16 --batch 32 --repeats 9\n"
    "  adatape bench models --models vit_large_patch16_224 --device cuda";

struct BenchArguments {
  std::string what, output = "runs/bench_models", device = "auto";
  std::vector<std::string> families = {"adatape", "vit", "avit", "uvit", "u2t"}, sizes = {"tiny", "small", "base"}, patches = {"16", "32"},
                           models;
  SpeedOptions speed;
  int threads = 0;
  bool verbose = false;
  bool json = false;
};

// Only models on images are timed here.
void check_family(const std::string& family) {
  std::string known;
  for (const PresetFamily& presets : preset_families()) {
    const std::string& name = presets.presets.front().model;
    if (name == family) return;
    known += (known.empty() ? "" : ", ") + name;
  }
  throw Error(concat("bench: --families: expected some of ", known, " (models on images), got \"", family, "\""));
}

// The presets asked for, sizes of a family after each other.
std::vector<const ModelPreset*> chosen(const BenchArguments& arguments) {
  std::vector<const ModelPreset*> presets;
  for (const std::string& model : arguments.models) presets.push_back(&require_preset(model));
  if (!presets.empty()) return presets;
  for (const std::string& family : arguments.families) {
    check_family(family);
    for (const std::string& patch : arguments.patches) {
      for (const std::string& size : arguments.sizes) {
        presets.push_back(&require_preset(concat(family, "_", size, "_patch", patch, "_224")));
      }
    }
  }
  return presets;
}

int bench(const BenchArguments& arguments) {
  install_stop_handlers();
  if (arguments.threads > 0) at::set_num_threads(arguments.threads);
  SpeedOptions options = arguments.speed;
  options.device = parse_device(arguments.device);
  const KernelReport report(options.device, /*asked=*/options.device.is_cuda(), arguments.verbose);
  const std::vector<const ModelPreset*> presets = chosen(arguments);
  check_output_folder(arguments.output);
  plotly_script();  // what would keep the page from being written is an error before the measuring, not after it
  const int64_t passes = 1 + options.repeats;
  Progress progress("timing", static_cast<int64_t>(presets.size()) * passes, "passes", /*quiet=*/arguments.json);
  std::vector<ModelSpeed> speeds;
  for (const ModelPreset* preset : presets) {
    speeds.push_back(measure_speed(*preset, options, [&](int64_t done) {
      if (stop_requested()) throw Interrupted("benchmark stopped; nothing was written");
      progress.update(static_cast<int64_t>(speeds.size()) * passes + done, preset->name);
    }));
  }
  progress.finish();
  const nlohmann::ordered_json results = speed_json(speeds, options, command_line());
  write_page(
      arguments.output, [&] { return speed_html(speeds, options, command_line()); }, results);
  if (arguments.json) {
    std::cout << json_text(results, 2) << "\n";
  } else {
    std::cout << speed_text(speeds) << "\nreport   " << arguments.output << "/report.html\nresults  " << arguments.output
              << "/results.json\n";
  }
  return 0;
}

}  // namespace

std::function<int()> declare_bench(CLI::App& app) {
  auto arguments = std::make_shared<BenchArguments>();
  app.footer(kBenchMore);
  app.add_option("WHAT", arguments->what, "models")->required()->check(CLI::IsMember({"models"}))->type_name("");
  const auto list = [&](const char* name, std::vector<std::string>& value, const char* help) {
    app.add_option(name, value, help)->delimiter(',')->type_name("A,B")->capture_default_str();
  };
  list("--families", arguments->families, "families of models");
  list("--sizes", arguments->sizes, "tiny, small, base or large");
  list("--patches", arguments->patches, "sides of a patch: 16 or 32");
  list("--models", arguments->models, "whole names instead (see `adatape list models`)");
  app.add_option("--batch", arguments->speed.batch, "images of a pass")->check(CLI::Range(1, 1 << 16))->capture_default_str();
  app.add_option("--image-size", arguments->speed.image_size, "side of an image in pixels")
      ->check(CLI::Range(32, 1 << 14))
      ->capture_default_str();
  app.add_option("--repeats", arguments->speed.repeats, "timed passes")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  app.add_option("--depth", arguments->speed.depth,
                 "mean share of the blocks at which tokens or examples halt, for all that halt by depth [as published]")
      ->check(CLI::Range(0.01, 1.0))
      ->type_name("SHARE");
  app.add_option("--device", arguments->device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--verbose", arguments->verbose, KernelReport::kHelp);
  app.add_option("--output,-o", arguments->output, "folder for report.html and results.json; made if need be")
      ->type_name("DIR")
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "results.json on stdout in the place of the table, no progress");
  return [arguments] { return bench(*arguments); };
}

}  // namespace adatape::cli
