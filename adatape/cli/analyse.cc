// adatape analyse RUN: what a model with tapes reads, as pictures, a page and data.
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "adatape/analysis/page.h"
#include "adatape/analysis/report.h"
#include "adatape/analysis/survey_page.h"
#include "adatape/analysis/survey_pictures.h"
#include "adatape/analysis/tape_budget_table.h"
#include "adatape/cli/at_least.h"
#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/cli/output_folder.h"
#include "adatape/cli/tape_budget_option.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"

namespace adatape::cli {
namespace {

constexpr int64_t kShownExamples = 4;

constexpr const char* kAnalyseMore =
    "Writes into DIR:\n"
    "  analysis.html   one file that opens offline in a browser: where the model reads over the data set and for each class, against the\n"
    "                  distance from the centre; tape length by class and difficulty; the examples with the shortest and longest tapes\n"
    "  analysis.json   the numbers behind it\n"
    "  length_by_class.png, length_by_loss.png, length_by_margin.png\n"
    "  reader_R_heatmap.png, reader_R_classes.png, reader_R_centre.png   where it reads, for banks of images\n"
    "  shortest.png, longest.png   what was read of the images with the shortest and the longest tapes\n"
    "Where the task knows where the thing to be recognised lies (cluttered_scenes), the share of what was read that lies on it is given\n"
    "against chance.\n"
    "\n"
    "Examples:\n"
    "  adatape analyse runs/images/adatape_input_bank\n"
    "  adatape analyse runs/images/adatape_input_bank --tape-budget 6 --output runs/six_tokens\n"
    "  adatape analyse runs/images/adatape_input_bank --set model.readers.0.threshold=4 --output runs/threshold_4";

struct AnalyseArguments {
  std::string folder, output;
  InferenceOptions inference;
  TapeBudgetOption budget;
  std::vector<std::string> assignments;
  int64_t examples = 10000;
};

int analyse(const AnalyseArguments& arguments) {
  install_stop_handlers();
  const c10::Device device = arguments.inference.start();
  LoadedRun run = load_run(arguments.folder, arguments.assignments, device);
  arguments.inference.prepare(*run.model, device);
  const std::string output = arguments.output.empty() ? arguments.folder + "/analysis" : arguments.output;
  check_output_folder(output);
  const std::string script = plotly_script();
  std::string remark;
  if (const auto setting = arguments.budget.apply(run, device, /*quiet=*/false)) {
    remark = concat("tape budget ", setting->budget.text, setting->met ? "" : ", nearest below",
                    setting->beyond_training ? ", beyond training" : "");
    std::cout << tape_budget_remarks({BudgetResult{*setting, {}}});
  }
  const int64_t examples = std::min(arguments.examples, run.task->held_out_size(Split::kTest));
  Progress progress("analyse", examples, "examples");
  const ReadingSurvey survey = survey_readings(run, device, examples, kShownExamples, [&](int64_t done) {
    if (stop_requested()) throw Interrupted("analysis stopped; nothing was written");
    progress.update(done);
  });
  progress.finish();
  const std::vector<std::string> notes = run.task->notes();
  for (const std::string& note : notes) std::cerr << "adatape: " << for_terminal(note) << std::endl;
  make_directories(output);
  const std::vector<std::string> pictures = write_survey_pictures(survey, output);
  write_file_atomically(output + "/analysis.json", json_text(survey_json(survey), 1) + "\n");
  write_file_atomically(
      output + "/analysis.html",
      self_contained(survey_html(survey, run.config.label, remark, command_line(), run.task->symbol_names(), notes), script));
  if (survey.on_object.examples() > 0) {
    std::cout << "  read on the object   " << percent_text(survey.on_object.rows()) << " of the rows, "
              << percent_text(survey.on_object.weighted()) << " by weight; by chance " << percent_text(survey.on_object.chance()) << "\n";
  }
  std::cout << "  page                 " << output << "/analysis.html\n";
  for (const std::string& picture : pictures) std::cout << "  picture              " << output << "/" << picture << "\n";
  return 0;
}

}  // namespace

std::function<int()> declare_analyse(CLI::App& app) {
  auto arguments = std::make_shared<AnalyseArguments>();
  app.footer(kAnalyseMore);
  app.add_option("RUN", arguments->folder, "run or model folder of a model with tapes")->required();
  app.add_option("--output,-o", arguments->output, "folder for the results, made if need be [RUN/analysis]")->type_name("DIR");
  app.add_option("--examples", arguments->examples, "test examples that are read")
      ->type_name("N")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--set", arguments->assignments, "change a key of its config.toml (may be repeated); keys that change shapes are refused")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  arguments->budget.declare(app);
  arguments->inference.declare(app);
  return [arguments] { return analyse(*arguments); };
}

}  // namespace adatape::cli
