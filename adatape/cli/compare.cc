// adatape compare RUN... --output DIR: a table, results.json and a page that set runs side by side.
#include <ATen/Parallel.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "adatape/analysis/family.h"
#include "adatape/analysis/report.h"
#include "adatape/cli/at_least.h"
#include "adatape/cli/command.h"
#include "adatape/cli/output_folder.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"
#include "adatape/train/run_record.h"

namespace adatape::cli {
namespace {

constexpr int64_t kExamplesOfEach = 3;

constexpr const char* kCompareMore =
    "Writes into DIR, which may hold other files (the runs themselves, say):\n"
    "  report.html    one file that opens offline in a browser: table, learning curves, tape lengths, what single examples read, every "
    "draw\n"
    "  frontier.png   accuracy against speed, one of the page's figures as a picture\n"
    "  results.json   {\"runs\": [a row for each model and seed]}, each row the result.json of its run\n"
    "\n"
    "Runs with the same label and the same configuration but for seed and learning rate are one row of the table. Of several learning "
    "rates\n"
    "the run with the best validation accuracy is shown (at a tie, the lowest validation loss), for each seed, and the table says so;\n"
    "several seeds give mean and worst accuracy and median times. AdaTape comes first, then baselines, then controls\n"
    "(labels that begin with control_).\n"
    "\n"
    "A run without result.json (unfinished, or an imported model) is named on stderr and left out. A folder that is no run is an error, "
    "and\n"
    "then nothing is written.\n"
    "\n"
    "--family: runs on several tasks, each judged by its `value` (test accuracy, or on text the bits of an n-gram by the model's) against\n"
    "the `goal` and `published` of its configuration. A `name` is the label behind the folder of its configuration, as in `make family`.\n"
    "\n"
    "Examples:\n"
    "  adatape compare runs/adatape runs/transformer --output runs/comparison\n"
    "  adatape compare runs/parity/*/ --output runs/parity        then open runs/parity/report.html\n"
    "  adatape compare runs/*/ --output comparison --json > rows.json";

struct CompareArguments {
  std::vector<std::string> runs;
  std::string output, device = "auto";
  int64_t examples = 2000;
  int threads = 0;
  std::string benchmarks;
  bool json = false, sweep = false, family = false, speed = false;
};

int compare(const CompareArguments& arguments) {
  install_stop_handlers();
  ADATAPE_CHECK(arguments.benchmarks.empty() || arguments.family, "compare",
                "--benchmarks goes with --family; add --family or leave it away");
  const std::vector<BenchmarkResult> benchmarks =
      arguments.benchmarks.empty() ? std::vector<BenchmarkResult>{} : read_benchmarks(arguments.benchmarks);
  check_output_folder(arguments.output);
  plotly_script();  // what would keep the page from being written is an error before the measuring, not after it
  if (arguments.threads > 0) at::set_num_threads(arguments.threads);
  const c10::Device device = parse_device(arguments.device);
  Comparison comparison = arguments.family ? read_family(arguments.runs, command_line()) : read_comparison(arguments.runs, command_line());
  for (const std::string& folder : comparison.unfinished) {
    const std::string word = shell_quote(folder);
    std::cerr << "adatape: " << folder << " is left out: " << why_without_result(folder)
              << (can_resume(folder) ? "; go on with it by `adatape train --output " + word + " --resume`"
                                     : "; `adatape evaluate " + word + "` measures it")
              << std::endl;
  }
  if (arguments.speed) {
    Progress timing("timing", static_cast<int64_t>(comparison.models.size()), "models", /*quiet=*/arguments.json);
    measure_speeds(comparison, device, [&](size_t done) {
      if (stop_requested()) throw Interrupted("comparison stopped; nothing was written");
      timing.update(static_cast<int64_t>(done));
    });
    timing.finish();
  }
  Progress progress("reading tapes", static_cast<int64_t>(comparison.models.size()), "models", /*quiet=*/arguments.json);
  measure(comparison, device, {arguments.examples, kExamplesOfEach, arguments.sweep}, [&](size_t done) {
    if (stop_requested()) throw Interrupted("comparison stopped; nothing was written");
    progress.update(static_cast<int64_t>(done));
  });
  progress.finish();
  std::set<std::string> notes;  // models of one task share them
  for (const ModelMeasurement& measurement : comparison.measurements) {
    for (const std::string& note : measurement.notes) {
      if (notes.insert(note).second) std::cerr << "adatape: " << for_terminal(note) << std::endl;
    }
  }
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    const std::string& problem = comparison.measurements[i].problem;
    if (!problem.empty())
      std::cerr << "adatape: the report has no tape lengths of " << comparison.models[i].name << ": " << problem << std::endl;
  }
  if (arguments.family) {
    write_family(comparison, benchmarks, arguments.output);
  } else {
    write_report(comparison, arguments.output);
  }
  if (arguments.json) {
    std::cout << json_text(arguments.family ? family_results_json(comparison, benchmarks) : measured_results_json(comparison), 2) << "\n";
  } else {
    std::cout << (arguments.family ? family_text(comparison) : table_text(table_of(comparison.models))) << "\nreport   " << arguments.output
              << "/report.html\nresults  " << arguments.output << "/results.json\n";
  }
  return 0;
}

}  // namespace

std::function<int()> declare_compare(CLI::App& app) {
  auto arguments = std::make_shared<CompareArguments>();
  app.footer(kCompareMore);
  app.add_option("RUN", arguments->runs, "run folders that adatape train wrote")->required()->type_name("");
  app.add_option("--output,-o", arguments->output, "folder for report.html and results.json; made if need be")
      ->required()
      ->type_name("DIR");
  app.add_option("--examples", arguments->examples, "test examples that tape lengths and cost by part are measured on")
      ->type_name("N")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_flag("--sweep", arguments->sweep, "measure models that halt by a threshold over the whole range of tape budgets (see evaluate)");
  app.add_flag("--speed", arguments->speed,
               "time all models on this machine, one after the other, in the place of the speeds that their runs wrote down");
  app.add_flag("--family", arguments->family,
               "systems on several tasks, each against the goal of its configuration: a section a task instead of one table");
  app.add_option("--benchmarks", arguments->benchmarks,
                 "with --family: time saved against FLOPs saved, as adatape_benchmarks --json wrote it")
      ->type_name("FILE");
  app.add_option("--device", arguments->device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--threads", arguments->threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--json", arguments->json, "results.json on stdout in the place of the table, no progress");
  return [arguments] { return compare(*arguments); };
}

}  // namespace adatape::cli
