// adatape evaluate RUN_OR_MODEL: measures a model on held-out data.
#include "adatape/train/evaluate.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "adatape/analysis/halting_depths.h"
#include "adatape/analysis/tape_budget_table.h"
#include "adatape/analysis/tape_usage.h"
#include "adatape/cli/at_least.h"
#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/core/check.h"
#include "adatape/core/json_text.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"
#include "adatape/models/universal_transformer.h"
#include "adatape/train/gradients.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/run_record.h"
#include "adatape/train/tape_calibration.h"

namespace adatape::cli {
namespace {

constexpr const char* kEvaluateMore =
    "Accuracy and loss are means over the examples. Tokens: those of the longest block (input and tape); token-steps: summed over\n"
    "all blocks that ran; tokens a block: in each of them; steps of halting: of a token, or of an example where that halts as a whole.\n"
    "FLOPs count the forward pass of an example (2 x multiply-adds) over the tokens it really used; those saved are against the same\n"
    "model where nothing halts before its last block. Speed is that of the forward passes alone, without reading data.\n"
    "\n"
    "--tape-budget moves the halting thresholds of a trained AdaTape until it reads what is asked for, and its longest tape where that\n"
    "is beyond training; nothing is retrained. The thresholds are calibrated on validation examples (on training examples as they are,\n"
    "where the validation split is the test) and printed. A budget that cannot be met within 2 % becomes the nearest below it, and one\n"
    "below a tape token for each reading is refused with what that costs. Several budgets, or --sweep, print a table.\n"
    "\n"
    "--parts adds a table of the model's parts, measured on the first 500 test examples with the tokens that they really use: FLOPs, "
    "bytes\n"
    "that come in and go out of the part for an example (float32; what stays within a part is not counted), and bytes of the weights, "
    "which\n"
    "are read once however large the batch is.\n"
    "\n"
    "Examples:\n"
    "  adatape evaluate runs/adatape\n"
    "  adatape evaluate runs/adatape --tape-budget 4.5          4.5 tape tokens an example on average\n"
    "  adatape evaluate runs/adatape --tape-budget 80%          80 % of the FLOPs of full tapes\n"
    "  adatape evaluate runs/adatape --sweep                    from one step of each reading to twice the longest tape of training\n"
    "  adatape evaluate runs/adatape --set model.readers.0.threshold=3 --examples 10000\n"
    "  adatape evaluate runs/adatape --parts                    FLOPs and bytes of each part of the model\n"
    "  adatape evaluate runs/adatape --split validation --json";

struct EvaluateArguments {
  std::string folder, split = "test";
  InferenceOptions inference;
  std::vector<std::string> assignments, budgets;
  int64_t examples = 0, batch_size = 0, calibration_examples = kCalibrationExamples;
  bool json = false, sweep = false, parts = false;
};

// Share of the FLOPs that the model would take if nothing halted before its last block or step. In the first one everything runs, and all
// are alike, unless only some of them have experts or these may drop choices.
std::optional<double> flops_saved(const ModelConfig& config, const EvaluationResult& result) {
  const auto* encoder = dynamic_cast<const EncoderConfig*>(&config);
  const int64_t blocks = deepest(config);
  const auto* universal = dynamic_cast<const UniversalTransformerConfig*>(&config);
  if (blocks == 0 || encoder == nullptr || result.block_flops.empty()) return std::nullopt;
  const MoeConfig& moe = encoder->moe;
  const bool everywhere = moe.every == 1 || (universal != nullptr && universal->shared_blocks);
  if (moe.experts > 0 && (!everywhere || moe.evaluation_capacity > 0)) return std::nullopt;
  const double run = std::accumulate(result.block_flops.begin(), result.block_flops.end(), 0.0);
  const double full = result.flops - run + static_cast<double>(blocks) * result.block_flops.front();
  return std::max(0.0, 1 - result.flops / full);  // rounding
}

// What was evaluated, and on what.
nlohmann::ordered_json subject_of(const LoadedRun& run, const EvaluateArguments& arguments, int64_t examples, at::Device device) {
  return {{"folder", printable(run.folder)},
          {"model", run.config.label},
          {"model_name", run.config.model->name},
          {"task", run.config.task->name},
          {"overrides", arguments.assignments},
          {"split", arguments.split},
          {"examples", examples},
          {"device", device.str()},
          {"precision", arguments.inference.precision},
          {"threads", at::get_num_threads()}};
}

void add_measured(nlohmann::ordered_json& row, const LoadedRun& run, const EvaluationResult& result) {
  row.update(nlohmann::ordered_json{{"accuracy", result.accuracy},
                                    {"loss", result.loss},
                                    {"auxiliary_losses", result.auxiliary_losses},
                                    {"tokens", result.tokens},
                                    {"token_steps", result.token_steps},
                                    {"block_tokens", result.block_tokens},
                                    {"tape_length_mean", result.tape_length_mean},
                                    {"tape_length_std", result.tape_length_std},
                                    {"flops", result.flops},
                                    {"seconds", result.seconds},
                                    {"examples_per_second", result.examples_per_second},
                                    {"accuracy_by_covariate", accuracy_by_covariate(result)}});
  add_classification(row, result.classification);
  row.update(where_they_apply(result));
  if (const auto share = flops_saved(*run.config.model, result)) row["flops_saved"] = *share;
}

std::string table_of(const LoadedRun& run, const EvaluateArguments& arguments, const EvaluationResult& result) {
  std::string text =
      concat(run.config.label, " on ", run.config.task->name, ", ", result.examples, " examples of the ", arguments.split, " split\n");
  const auto line = [&](const std::string& name, const std::string& value) {
    text += concat("  ", name, std::string(name.size() < 18 ? 18 - name.size() : 1, ' '), value, "\n");
  };
  line("accuracy", percent_text(result.accuracy));
  if (result.classification.classes() > 5) line("top-5 accuracy", percent_text(result.classification.top5_accuracy()));
  if (result.classification.classes() > 0) line("calibration error", percent_text(result.classification.calibration_error()));
  if (result.answer_accuracy) line("answers right", percent_text(*result.answer_accuracy));
  line("loss", number_text("%.4g", result.loss));
  for (const auto& [name, value] : result.described) line(name, number_text("%.4f", value));
  for (const auto& [name, value] : result.auxiliary_losses) {
    if (auxiliary_key(name) != name) line(name + " loss", number_text("%.4g", value));
  }
  line("tokens", number_text("%.2f", result.tokens));
  line("token-steps", number_text("%.2f", result.token_steps));
  if (result.steps || !run.model->tape_readers().empty()) {
    std::string tokens;
    for (const double mean : result.block_tokens) tokens += number_text(tokens.empty() ? "%.1f" : " %.1f", mean);
    line("tokens a block", tokens);
  }
  if (result.steps) line("steps of halting", concat(number_text("%.2f", *result.steps), " on average"));
  if (!run.model->tape_readers().empty())
    line("tape length", concat(number_text("%.2f", result.tape_length_mean), " +- ", number_text("%.2f", result.tape_length_std)));
  for (const auto& block : result.experts) {
    double all = 0;
    std::string shares;
    for (const int64_t served : block.served) all += static_cast<double>(served);
    for (const int64_t served : block.served) shares += number_text(" %.1f", all > 0 ? 100 * static_cast<double>(served) / all : 0);
    line(block.part, concat("experts serve", shares, " %, ", number_text("%.1f %%", 100 * block.dropped), " of the choices dropped"));
  }
  line("FLOPs", format_count(result.flops));
  if (const auto share = flops_saved(*run.config.model, result))
    line("FLOPs saved", number_text("%.1f %% against full depth", 100 * *share));
  line("examples/s", format_count(result.examples_per_second));
  if (result.by_covariate.size() > 1) {
    text += concat("  accuracy by ", result.covariate, "\n");
    const std::vector<std::string> names = result.covariate == "class" ? run.task->class_names() : std::vector<std::string>{};
    for (const CovariateGroup& group : result.by_covariate) {
      const auto index = static_cast<size_t>(std::max(0.0, group.value));
      line(index < names.size() ? "  " + for_terminal(names[index]) : concat("  ", group.value),
           concat(percent_text(group.accuracy), " of ", group.examples));
    }
  }
  return text;
}

std::vector<TapeSetting> calibrated(const EvaluateArguments& arguments, const LoadedRun& run, at::Device device) {
  std::vector<TapeBudget> budgets;
  for (const std::string& text : arguments.budgets) budgets.push_back(parse_tape_budget(text));
  if (budgets.empty() && !arguments.sweep) return {};
  Progress progress("calibrate", 0, "batches", /*quiet=*/arguments.json);
  int64_t batches = 0;
  TapeCalibration calibration(run, device, arguments.calibration_examples, [&] {
    if (stop_requested()) throw Interrupted("calibration stopped");
    progress.update(++batches);
  });
  if (arguments.sweep) {
    const std::vector<TapeBudget> sweep = sweep_budgets(calibration);
    budgets.insert(budgets.end(), sweep.begin(), sweep.end());
  }
  std::vector<TapeSetting> settings;
  for (const TapeBudget& budget : budgets) settings.push_back(calibration.find(budget));
  progress.finish();
  return settings;
}

int evaluate_run(const EvaluateArguments& arguments) {
  install_stop_handlers();
  ADATAPE_CHECK(!arguments.parts || (arguments.budgets.size() <= 1 && !arguments.sweep), "evaluate",
                "--parts: expected at most one tape budget beside it, got several");
  const c10::Device device = arguments.inference.start();
  LoadedRun run = load_run(arguments.folder, arguments.assignments, device);
  arguments.inference.prepare(*run.model, device);
  const Split split = arguments.split == "test" ? Split::kTest : Split::kValidation;
  const int64_t wanted = arguments.examples > 0 ? arguments.examples : run.config.evaluation.test_examples;
  const int64_t batch_size = arguments.batch_size > 0 ? arguments.batch_size : run.config.evaluation.batch_size;
  const int64_t examples = std::min(wanted, run.task->held_out_size(split));
  const std::vector<TapeSetting> settings = calibrated(arguments, run, device);
  for (const TapeSetting& setting : settings) {
    if (!setting.met) std::cerr << "adatape: " << unmet_budget(setting) << std::endl;
  }
  const int64_t rounds = std::max<int64_t>(1, static_cast<int64_t>(settings.size()));
  Progress progress("evaluate", rounds * examples, "examples", /*quiet=*/arguments.json);
  std::vector<BudgetResult> results;
  EvaluationResult result;
  for (int64_t round = 0; round < rounds; ++round) {
    if (!settings.empty()) apply_tape_setting(run, settings[static_cast<size_t>(round)]);
    result = evaluate(*run.model, *run.task, split, examples, batch_size, device, /*quick=*/false, [&](int64_t done) {
      if (stop_requested()) throw Interrupted("evaluation stopped");
      progress.update(round * examples + done);
    });
    if (!settings.empty()) results.push_back({settings[static_cast<size_t>(round)], result});
  }
  progress.finish();
  std::vector<PartCost> parts;
  if (arguments.parts) parts = measure_tape_usage(run, device, std::min(kCostExamples, run.task->held_out_size(Split::kTest)), 0).cost;
  for (const std::string& note : run.task->notes()) std::cerr << "adatape: " << for_terminal(note) << std::endl;
  if (arguments.json) {
    nlohmann::ordered_json row = subject_of(run, arguments, examples, device);
    if (results.size() <= 1) add_measured(row, run, result);  // of several budgets each has its own
    if (arguments.parts) row["parts"] = cost_json(parts);
    if (!results.empty()) row["tape_budgets"] = tape_budgets_json(results);
    std::cout << json_text(row, 2) << "\n";
  } else if (results.size() > 1) {
    std::cout << concat(run.config.label, " on ", run.config.task->name, ", ", result.examples, " examples of the ", arguments.split,
                        " split\n\n")
              << table_text(tape_budget_table(results)) << "\n"
              << tape_budget_remarks(results);
  } else {
    std::cout << table_of(run, arguments, result) << tape_budget_remarks(results);
  }
  if (arguments.parts && !arguments.json) std::cout << "\n" << table_text(cost_table(parts));
  return 0;
}

}  // namespace

std::function<int()> declare_evaluate(CLI::App& app) {
  auto arguments = std::make_shared<EvaluateArguments>();
  app.footer(kEvaluateMore);
  app.add_option("RUN_OR_MODEL", arguments->folder, "folder with config.toml and model.safetensors")->required();
  app.add_option("--set", arguments->assignments, "change a key of its config.toml (may be repeated); keys that change shapes are refused")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--split", arguments->split, "test or validation")
      ->check(CLI::IsMember({"test", "validation"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--examples", arguments->examples, "how many [evaluation.test_examples]")->type_name("N")->check(at_least(1));
  app.add_option("--batch-size", arguments->batch_size, "examples in a forward pass [evaluation.batch_size]")
      ->type_name("N")
      ->check(at_least(1));
  app.add_option("--tape-budget", arguments->budgets,
                 "mean tape tokens an example (4.5), or a share of the FLOPs of full tapes (80%); several, with commas: a table")
      ->type_name("X")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag("--sweep", arguments->sweep, "a table over the whole range of budgets");
  app.add_option("--calibration-examples", arguments->calibration_examples,
                 "examples that thresholds are found on: validation, or training where validation is the test")
      ->type_name("N")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_flag("--parts", arguments->parts, "FLOPs and bytes of each part of the model");
  arguments->inference.declare(app);
  app.add_flag("--json", arguments->json, "JSON on stdout, no progress; of several budgets the numbers are in tape_budgets alone");
  return [arguments] { return evaluate_run(*arguments); };
}

}  // namespace adatape::cli
