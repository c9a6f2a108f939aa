#include "adatape/analysis/comparison.h"

#include "adatape/core/check.h"

namespace adatape {

Comparison read_comparison(const std::vector<std::string>& folders, const std::string& command) {
  Comparison comparison;
  comparison.command = command;
  RunFolders read = read_run_folders(folders);
  comparison.unfinished = std::move(read.unfinished);
  comparison.runs = std::move(read.finished);
  ADATAPE_CHECK(!comparison.runs.empty(), "compare", "expected at least one finished run (a folder with result.json), got ",
                comparison.unfinished.size(), " unfinished; go on with them by `adatape train --output RUN --resume`");
  comparison.models = gather(comparison.runs);
  for (const FinishedRun& run : comparison.runs) comparison.curves.push_back(read_curves(run.folder));
  return comparison;
}

void measure(Comparison& comparison, at::Device device, int64_t examples, int64_t shown, const std::function<void(size_t done)>& progress) {
  comparison.measurements.clear();
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    ModelMeasurement measurement;
    if (progress) progress(i);
    try {
      const LoadedRun run = load_run(comparison.models[i].first().folder, {}, device);
      measurement.covariate_name = run.task->covariate_name();
      measurement.element_covariate_name = run.task->element_covariate_name();
      measurement.symbol_names = run.task->symbol_names();
      measurement.class_names = run.task->class_names();
      measurement.usage = measure_tape_usage(run, device, examples, shown, [&] {
        if (progress) progress(i);
      });
    } catch (const Error& error) {
      measurement.problem = error.what();
    }
    comparison.measurements.push_back(std::move(measurement));
  }
  if (progress) progress(comparison.models.size());
}

}  // namespace adatape
