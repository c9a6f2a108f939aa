#include "adatape/analysis/comparison.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "adatape/analysis/covariate_means.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/train/run_record.h"
#include "adatape/train/tape_calibration.h"

namespace adatape {

Comparison read_comparison(const std::vector<std::string>& folders, const std::string& command) {
  Comparison comparison;
  comparison.command = command;
  RunFolders read = read_run_folders(folders);
  comparison.unfinished = std::move(read.unfinished);
  comparison.runs = std::move(read.finished);
  const std::vector<std::string>& without = comparison.unfinished;
  const auto resumable = std::count_if(without.begin(), without.end(), can_resume), models = std::ssize(without) - resumable;
  ADATAPE_CHECK(!comparison.runs.empty(), "compare", "expected at least one finished run (a folder with result.json), got ", resumable,
                " unfinished", models > 0 ? concat(" and ", models, " of a model alone, which has no run to compare") : "",
                resumable > 0 ? "; go on with what is unfinished by `adatape train --output RUN --resume`"
                              : "; `adatape evaluate MODEL` measures a model alone");
  comparison.models = gather(comparison.runs);
  for (const FinishedRun& run : comparison.runs) comparison.curves.push_back(read_curves(run.folder));
  return comparison;
}

namespace {

// Models whose tapes have no threshold to move are left without budgets.
std::vector<BudgetResult> sweep_of(LoadedRun& run, at::Device device, int64_t examples, const std::function<void()>& progress) {
  const std::vector<TapeReader*> readers = run.model->tape_readers();
  const bool movable = std::any_of(readers.begin(), readers.end(), [](const TapeReader* reader) {
    return reader->config.halting == "threshold" && reader->config.selection != "all";
  });
  if (!movable) return {};
  TapeCalibration calibration(run, device, kCalibrationExamples, progress);
  std::vector<TapeSetting> settings;
  for (const TapeBudget& budget : sweep_budgets(calibration)) settings.push_back(calibration.find(budget));
  std::vector<BudgetResult> results;
  for (const TapeSetting& setting : settings) {
    apply_tape_setting(run, setting);
    results.push_back({setting, evaluate(*run.model, *run.task, Split::kTest, examples, run.config.evaluation.batch_size, device,
                                         /*quick=*/false, [&](int64_t) { progress(); })});
  }
  return results;
}

}  // namespace

void measure(Comparison& comparison, at::Device device, const MeasureOptions& options, const std::function<void(size_t done)>& progress) {
  comparison.measurements.clear();
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    ModelMeasurement measurement;
    const auto step = [&] {
      if (progress) progress(i);
    };
    step();
    try {
      LoadedRun run = load_run(comparison.models[i].first().folder, {}, device);
      if (device.is_cpu()) run.model->pack_for_inference(torch::kFloat);
      measurement.covariate_name = run.task->covariate_name();
      measurement.element_covariate_name = run.task->element_covariate_name();
      measurement.symbol_names = run.task->symbol_names();
      measurement.class_names = run.task->class_names();
      measurement.answers_each = run.task->input_spec().answers_each;
      measurement.usage = measure_tape_usage(run, device, options.examples, options.shown, step);
      if (options.sweep) measurement.budgets = sweep_of(run, device, options.examples, step);
      measurement.notes = run.task->notes();  // after reading: what could not be read is among them
    } catch (const Error& error) {
      measurement.problem = error.what();
    }
    comparison.measurements.push_back(std::move(measurement));
  }
  if (progress) progress(comparison.models.size());
}

namespace {

// Examples a second, and of how many examples a pass was.
std::pair<double, int64_t> speed_of(const LoadedRun& run, at::Device device) {
  const at::NoGradGuard no_grad;
  if (device.is_cpu()) run.model->pack_for_inference(torch::kFloat);
  const int64_t count = std::min(kSpeedBatch, run.task->held_out_size(Split::kTest));
  const Batch batch = run.task->held_out_batch(Split::kTest, 0, count).to(device);
  run.model->forward(batch, {}).logits.cpu();  // waits for a device
  std::vector<double> seconds;
  for (double sum = 0; sum < kSpeedSeconds || seconds.size() < kSpeedPasses; sum += seconds.back()) {
    const auto start = std::chrono::steady_clock::now();
    run.model->forward(batch, {}).logits.cpu();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return {static_cast<double>(count) / median_of(seconds), count};
}

}  // namespace

void measure_speeds(Comparison& comparison, at::Device device, const std::function<void(size_t done)>& progress) {
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    if (progress) progress(i);
    for (const SeedRuns& seed : comparison.models[i].seeds) {
      FinishedRun& run = comparison.runs[static_cast<size_t>(seed.chosen - comparison.runs.data())];
      try {
        const LoadedRun loaded = load_run(run.folder, {}, device);
        const auto [speed, examples] = speed_of(loaded, device);
        // FLOPs of what was timed: packed weights may need fewer than those that were trained. Of the examples that training counted.
        const EvaluationConfig& of = loaded.config.evaluation;
        const double flops = evaluate(*loaded.model, *loaded.task, Split::kTest, std::min(of.test_examples, kCountedExamples),
                                      of.batch_size, device, /*quick=*/false,
                                      [&](int64_t) {
                                        if (progress) progress(i);
                                      })
                                 .flops;
        run.examples_per_second = speed;
        run.result["examples_per_second"] = speed;
        run.flops = flops;
        run.result["flops"] = flops;
        run.result["speed_measured"] = {{"device", device.str()}, {"threads", at::get_num_threads()}, {"batch_size", examples}};
      } catch (const Error&) {  // measure() says what is wrong with it
      }
    }
  }
  comparison.speed_measured = true;
  if (progress) progress(comparison.models.size());
}

namespace {

nlohmann::ordered_json means_json(const std::string& covariate, const std::vector<double>& covariates, const std::string& counted,
                                  const std::string& name, const std::vector<double>& values) {
  nlohmann::ordered_json groups = nlohmann::ordered_json::array();
  for (const CovariateMean& group : mean_by_covariate(values, covariates))
    groups.push_back({{"value", group.covariate}, {counted, group.count}, {name, group.mean}});
  return {{"covariate", covariate}, {"groups", groups}};
}

}  // namespace

nlohmann::ordered_json measured_results_json(const Comparison& comparison) {
  nlohmann::ordered_json results = results_json(comparison.models, comparison.command);
  for (nlohmann::ordered_json& row : results["runs"]) {
    for (size_t i = 0; i < comparison.models.size() && i < comparison.measurements.size(); ++i) {
      const ModelMeasurement& measurement = comparison.measurements[i];
      if (row["folder"] != comparison.models[i].first().folder) continue;
      if (!measurement.budgets.empty()) row["tape_budgets"] = tape_budgets_json(measurement.budgets);
      const TapeUsage& usage = measurement.usage;
      if (!usage.lengths.empty())
        row["tape_by_covariate"] = means_json(measurement.covariate_name, usage.covariates, "examples", "tape_tokens", usage.lengths);
      if (!usage.ponder_steps.empty()) {
        row["ponder_by_covariate"] =
            usage.ponder_by_element
                ? means_json(measurement.element_covariate_name, usage.ponder_covariates, "elements", "steps", usage.ponder_steps)
                : means_json(measurement.covariate_name, usage.ponder_covariates, "examples", "steps", usage.ponder_steps);
      }
      const ObjectShare& share = usage.on_object;
      if (share.examples() > 0)
        row["rows_on_object"] = {{"share", share.rows()}, {"by_weight", share.weighted()}, {"chance", share.chance()}};
    }
  }
  return results;
}

}  // namespace adatape
