// adatape generate MODEL --prompt TEXT: what a text model writes.
#include "adatape/models/generate.h"

#include <ATen/Parallel.h>

#include <iostream>

#include "adatape/cli/at_least.h"
#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/core/signals.h"
#include "adatape/train/run_folder.h"

namespace adatape::cli {
namespace {

constexpr const char* kGenerateMore =
    "A text model (gpt, palm, t5) writes symbol by symbol; keys and values of what it has read are kept. A decoder goes on with the\n"
    "prompt; an encoder-decoder answers it. Equal seeds give a prompt equal text, whatever other prompts there are; a\n"
    "prompt that is given twice gets a second text.\n"
    "\n"
    "Examples:\n"
    "  adatape generate runs/palm --prompt \"It is \" --tokens 200 --temperature 0.8\n"
    "  adatape generate runs/t5_reverse --prompt 31415 --temperature 0";

struct GenerateArguments {
  std::string model, device = "auto";
  std::vector<std::string> prompts, assignments;
  GenerateOptions generate;
  int threads = 0;
  bool verbose = false;
};

int run_generate(GenerateArguments options) {
  install_stop_handlers();
  if (options.threads > 0) at::set_num_threads(options.threads);
  const at::Device device = parse_device(options.device);
  const KernelReport report(device, /*asked=*/device.is_cuda(), options.verbose);
  const LoadedRun loaded = load_run(options.model, options.assignments, device, /*with_task=*/false);
  auto* model = dynamic_cast<TextModel*>(loaded.model.get());
  ADATAPE_CHECK(model != nullptr, "generate", options.model, ": expected a text model (gpt, palm, t5), got one of name \"",
                loaded.config.model->name, "\"");
  if (device.is_cpu()) model->pack_for_inference(torch::kFloat);
  const TaskConfig& task = *loaded.config.task;
  std::vector<std::vector<int64_t>> prompts;
  for (const std::string& prompt : options.prompts) prompts.push_back(task.read_text(prompt));
  options.generate.start = task.start_symbol();
  options.generate.stop = task.stop_symbol();
  // A single answer is shown while it is written; several would mix.
  const bool alone = prompts.size() == 1;
  bool begun = model->encoder_decoder();
  const auto answers = generate(*model, prompts, options.generate, {}, [&](const std::vector<int64_t>& newest) {
    if (stop_requested()) throw Interrupted("stopped");
    if (!alone) return;
    if (!begun) std::cout << options.prompts.front();
    begun = true;
    if (newest.front() >= 0) std::cout << task.write_text({newest.front()}) << std::flush;
  });
  if (alone) std::cout << "\n";
  for (size_t i = 0; !alone && i < answers.size(); ++i) {
    std::cout << (model->encoder_decoder() ? "" : options.prompts[i]) << task.write_text(answers[i]) << "\n";
  }
  return 0;
}

}  // namespace

std::function<int()> declare_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateArguments>();
  app.footer(kGenerateMore);
  app.add_option("model", options->model, "run or model folder")->required()->type_name("MODEL");
  app.add_option("--prompt", options->prompts, "text to begin with; several may be given")
      ->required()
      ->type_name("TEXT")
      ->allow_extra_args(false);
  app.add_option("--tokens", options->generate.symbols, "how many symbols to write at most [100, or what the model's positions allow]")
      ->type_name("N")
      ->check(CLI::Range(int64_t{1}, int64_t{1000000}));
  app.add_option("--temperature", options->generate.temperature, "of the softmax; 0 = the most likely symbol always")
      ->check(CLI::Range(0.0, 1000.0))
      ->type_name("T")
      ->capture_default_str();
  app.add_option("--top-k", options->generate.top_k, "draw among the K most likely symbols; 0 = all")
      ->check(at_least(0))
      ->type_name("K")
      ->capture_default_str();
  app.add_option("--seed", options->generate.seed, "of the draws")->type_name("S")->capture_default_str();
  app.add_option("--set", options->assignments, "change a configuration key")->type_name("KEY=VALUE")->allow_extra_args(false);
  app.add_option("--device", options->device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--threads", options->threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--verbose", options->verbose, KernelReport::kHelp);
  return [options] { return run_generate(*options); };
}

}  // namespace adatape::cli
