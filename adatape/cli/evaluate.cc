// adatape evaluate RUN_OR_MODEL: measures a model on held-out data.
#include "adatape/train/evaluate.h"

#include <ATen/Parallel.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "adatape/cli/command.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/run_record.h"

namespace adatape::cli {
namespace {

constexpr const char* kMore =
    "Accuracy and loss are means over the examples. Tokens: those of the longest block (input and tape); token-steps: summed over\n"
    "all blocks that ran. FLOPs count the forward pass of an example (2 x multiply-adds) over the tokens it really used. Speed is\n"
    "that of the forward passes alone, without reading data.\n"
    "\n"
    "Examples:\n"
    "  adatape evaluate runs/adatape\n"
    "  adatape evaluate runs/adatape --set model.readers.0.threshold=3 --examples 10000\n"
    "  adatape evaluate runs/adatape --split validation --json";

struct Arguments {
  std::string folder, split = "test", device = "auto";
  std::vector<std::string> assignments;
  int64_t examples = 0, batch_size = 0;
  int threads = 0;
  bool json = false;
};

std::string formatted(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof(text), format, value);
  return text;
}

nlohmann::ordered_json row_of(const LoadedRun& run, const Arguments& arguments, const EvaluationResult& result, at::Device device) {
  return {{"folder", run.folder},
          {"model", run.config.label},
          {"model_name", run.config.model->name},
          {"task", run.config.task->name},
          {"overrides", arguments.assignments},
          {"split", arguments.split},
          {"examples", result.examples},
          {"accuracy", result.accuracy},
          {"loss", result.loss},
          {"auxiliary_losses", result.auxiliary_losses},
          {"tokens", result.tokens},
          {"token_steps", result.token_steps},
          {"tape_length_mean", result.tape_length_mean},
          {"tape_length_std", result.tape_length_std},
          {"flops", result.flops},
          {"seconds", result.seconds},
          {"examples_per_second", result.examples_per_second},
          {"accuracy_by_covariate", accuracy_by_covariate(result)},
          {"device", device.str()},
          {"threads", at::get_num_threads()}};
}

std::string table_of(const LoadedRun& run, const Arguments& arguments, const EvaluationResult& result) {
  std::string text =
      concat(run.config.label, " on ", run.config.task->name, ", ", result.examples, " examples of the ", arguments.split, " split\n");
  const auto line = [&](const std::string& name, const std::string& value) {
    text += concat("  ", name, std::string(name.size() < 18 ? 18 - name.size() : 1, ' '), value, "\n");
  };
  line("accuracy", formatted("%.2f %%", 100 * result.accuracy));
  if (result.answer_accuracy) line("answers right", formatted("%.2f %%", 100 * *result.answer_accuracy));
  line("loss", formatted("%.4g", result.loss));
  for (const auto& [name, value] : result.described) line(name, formatted("%.4f", value));
  for (const auto& [name, value] : result.auxiliary_losses) line(name + " loss", formatted("%.4g", value));
  line("tokens", formatted("%.2f", result.tokens));
  line("token-steps", formatted("%.2f", result.token_steps));
  line("tape length", concat(formatted("%.2f", result.tape_length_mean), " +- ", formatted("%.2f", result.tape_length_std)));
  for (const auto& block : result.experts) {
    double all = 0;
    std::string shares;
    for (const int64_t served : block.served) all += static_cast<double>(served);
    for (const int64_t served : block.served) shares += formatted(" %.1f", all > 0 ? 100 * static_cast<double>(served) / all : 0);
    line(block.part, concat("experts serve", shares, " %, ", formatted("%.1f %%", 100 * block.dropped), " of the choices dropped"));
  }
  line("FLOPs", format_count(result.flops));
  line("examples/s", format_count(result.examples_per_second));
  if (result.by_covariate.size() > 1) {
    text += concat("  accuracy by ", result.covariate, "\n");
    for (const CovariateGroup& group : result.by_covariate) {
      line(concat("  ", group.value), concat(formatted("%.2f %%", 100 * group.accuracy), " of ", group.examples));
    }
  }
  return text;
}

int evaluate_run(const Arguments& arguments) {
  install_stop_handlers();
  if (arguments.threads > 0) at::set_num_threads(arguments.threads);
  const c10::Device device = parse_device(arguments.device);
  LoadedRun run = load_run(arguments.folder, arguments.assignments, device);
  const Split split = arguments.split == "test" ? Split::kTest : Split::kValidation;
  const int64_t wanted = arguments.examples > 0 ? arguments.examples : run.config.evaluation.test_examples;
  const int64_t batch_size = arguments.batch_size > 0 ? arguments.batch_size : run.config.evaluation.batch_size;
  const int64_t examples = std::min(wanted, run.task->held_out_size(split));
  Progress progress("evaluate", examples, "examples", /*quiet=*/arguments.json);
  const EvaluationResult result = evaluate(*run.model, *run.task, split, examples, batch_size, device, /*quick=*/false, [&](int64_t done) {
    if (stop_requested()) throw Interrupted("evaluation stopped");
    progress.update(done);
  });
  progress.finish();
  if (arguments.json) {
    nlohmann::ordered_json row = row_of(run, arguments, result, device);
    row.update(where_they_apply(result));
    std::cout << row.dump(2) << "\n";
  } else {
    std::cout << table_of(run, arguments, result);
  }
  return 0;
}

}  // namespace

std::function<int()> declare_evaluate(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  app.footer(kMore);
  app.add_option("RUN_OR_MODEL", arguments->folder, "folder with config.toml and model.safetensors")->required();
  app.add_option("--set", arguments->assignments, "change a key of its config.toml (may be repeated); keys that change shapes are refused")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--split", arguments->split, "test or validation")
      ->check(CLI::IsMember({"test", "validation"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--examples", arguments->examples, "how many [evaluation.test_examples]")->type_name("N")->check(CLI::PositiveNumber);
  app.add_option("--batch-size", arguments->batch_size, "examples in a forward pass [evaluation.batch_size]")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app.add_option("--device", arguments->device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--json", arguments->json, "JSON on stdout, no progress");
  return [arguments] { return evaluate_run(*arguments); };
}

}  // namespace adatape::cli
