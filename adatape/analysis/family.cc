#include "adatape/analysis/family.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "adatape/analysis/figures.h"
#include "adatape/analysis/html.h"
#include "adatape/analysis/page.h"
#include "adatape/analysis/report.h"
#include "adatape/analysis/run_details.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"
#include "adatape/train/run_record.h"
#include "adatape/train/version.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;

std::string value_text(const RunValue& value) {
  return value.measure == "test accuracy" ? percent_text(value.value) : number_text("%.3f", value.value);
}

// Over the seeds of a model.
std::vector<double> values_of(const ComparedModel& model) {
  std::vector<double> values;
  for (const SeedRuns& seed : model.seeds) values.push_back(run_value(*seed.chosen).value);
  return values;
}

double mean_over_seeds(const ComparedModel& model, double FinishedRun::*number) { return mean_of(over_seeds(model, number)); }

// Tasks in the order of their first model, with their models.
std::vector<std::pair<std::string, ModelIndices>> by_task(const Comparison& comparison) {
  std::vector<std::pair<std::string, ModelIndices>> tasks;
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    const std::string& task = comparison.models[i].first().task;
    auto found = std::find_if(tasks.begin(), tasks.end(), [&](const auto& entry) { return entry.first == task; });
    if (found == tasks.end()) found = tasks.insert(tasks.end(), {task, {}});
    found->second.push_back(i);
  }
  return tasks;
}

// The cells of a model: the same on the page and in the terminal.
struct FamilyLine {
  std::string name, value, goal, verdict;
};

FamilyLine line_of(const ComparedModel& model) {
  const FinishedRun& run = model.first();
  const std::vector<double> values = values_of(model);
  const RunValue mean = {mean_of(values), run_value(run).measure};
  FamilyLine line = {model.name, value_text(mean), "", ""};
  if (values.size() > 1) {
    line.value = concat(line.value, " (worst of ", values.size(), ": ",
                        value_text({*std::min_element(values.begin(), values.end()), mean.measure}), ")");
  }
  if (run.goal > 0) {
    line.goal = value_text({run.goal, mean.measure});
    line.verdict = mean.value >= run.goal ? "reached" : "short";
  }
  return line;
}

void add_summary(Page& page, const Comparison& comparison) {
  std::string html =
      "<div class=\"scroll\"><table><thead><tr><th>system</th><th class=\"number\">value</th><th class=\"number\">goal</th><th></th>"
      "<th class=\"number\">tokens</th><th class=\"number\">FLOPs</th><th class=\"number\">steps</th><th "
      "class=\"number\">seconds</th></tr></thead><tbody>\n";
  for (const auto& [task, models] : by_task(comparison)) {
    html += concat("<tr><td class=\"name\" colspan=\"8\"><b>", escape_html(task), "</b>, ",
                   escape_html(run_value(comparison.models[models.front()].first()).measure), "</td></tr>\n");
    for (const size_t index : models) {
      const ComparedModel& model = comparison.models[index];
      const FinishedRun& run = model.first();
      const FamilyLine line = line_of(model);
      const std::string about = run.published.empty() ? run.description : concat(run.description, " Published: ", run.published);
      html += concat(about.empty() ? "<tr>" : "<tr class=\"first\">",
                     "<td class=\"name\"><span class=\"dot\" style=\"background:", model_colour(index), "\"></span>",
                     escape_html(line.name), "</td>", html_cell(line.value), html_cell(line.goal), html_cell(line.verdict, "text"),
                     html_cell(number_text("%.1f", mean_over_seeds(model, &FinishedRun::tokens))),
                     html_cell(count_text(mean_over_seeds(model, &FinishedRun::flops))), html_cell(grouped_digits(run.steps)),
                     html_cell(number_text("%.0f", mean_over_seeds(model, &FinishedRun::training_seconds))), "</tr>\n");
      if (!about.empty()) html += concat("<tr><td class=\"wide\" colspan=\"8\"><span>", escape_html(about), "</span></td></tr>\n");
    }
  }
  page.html(html +
            "</tbody></table></div>\n<p class=\"soft\">Value: mean over seeds, on test examples that neither stopped nor chose a run. " +
            "Tokens: of an example in its longest block or step. FLOPs: of its forward pass, what was really computed. Seconds: in " +
            "training steps.</p>\n");
}

void add_task(Page& page, const Comparison& comparison, const std::string& task, const ModelIndices& models) {
  page.html(concat("<h2>", escape_html(task), "</h2>\n<div class=\"grid\">\n"));
  const auto add = [&](const Figure& figure, const std::string& caption) {
    if (!figure["data"].empty()) page.figure(figure, caption);
  };
  add(accuracy_by_covariate_figure(comparison, models), "Test accuracy against how hard an example is.");
  add(ponder_by_covariate(comparison, models),
      "Steps of the models that halt against how hard an example is, or an element of a sequence where the task tells them apart. Bars: "
      "one "
      "standard deviation.");
  add(ponder_by_position(comparison, models),
      "Steps of the models that halt element by element against the place in the sequence. Bars: one standard deviation.");
  add(tape_by_covariate(comparison, models), "Tape tokens against how hard an example is. Bars: one standard deviation.");
  add(expert_loads(comparison, models), "The share of a block's choices that each expert serves. What is missing to 100 % was dropped.");
  // Of text no whole window is ever right: bits say there what accuracy says elsewhere.
  if (const Figure bits = bits_curves(comparison, models); !bits["data"].empty()) {
    page.figure(bits, "Bits per byte of validation windows against steps.");
  } else {
    page.figure(accuracy_curves(comparison, models, CurveAxis::kSteps), "Validation accuracy against steps.");
  }
  page.html("</div>\n");
}

void add_savings(Page& page, const std::vector<BenchmarkResult>& benchmarks) {
  if (benchmarks.empty()) return;
  std::string html =
      "<h2>Time saved against FLOPs saved</h2>\n<p class=\"soft\">Each model is timed on examples that halt at depths spread evenly, and "
      "on examples that all go to the deepest. The ratio is the share of the time saved to the share of the FLOPs saved: 1 means that what "
      "has halted costs nothing.</p>\n<div class=\"scroll\"><table><thead><tr><th>benchmark</th><th class=\"number\">halting, ms</th><th "
      "class=\"number\">full depth, ms</th><th class=\"number\">FLOPs saved</th><th class=\"number\">time saved</th><th "
      "class=\"number\">ratio</th><th class=\"number\">goal</th></tr></thead><tbody>\n";
  for (const BenchmarkResult& row : benchmarks) {
    html += concat("<tr>", html_cell(row.name, "name"), html_cell(number_text("%.2f", row.ours_ms)),
                   html_cell(number_text("%.2f", row.rival_ms)), html_cell(percent_text(row.flops_saved)),
                   html_cell(percent_text(row.time_saved())), html_cell(number_text("%.2f", row.ratio)),
                   html_cell(number_text("%.2f", row.goal)), "</tr>\n");
  }
  page.html(html + "</tbody></table></div>\n");
}

// The label as scripts/family.sh has it: the command is "adatape train graphs/transformer.toml ...".
std::string family_name(const FinishedRun& run) {
  std::istringstream words(run.result.at("command").get<std::string>());
  std::string folder;
  for (std::string word; words >> word;) {
    const size_t label = word.find("label=");  // behind --set, --set= or a quote
    if (label == 0 || (label != std::string::npos && (word[label - 1] == '=' || word[label - 1] == '\''))) return run.model;
    if (folder.empty() && word.ends_with(".toml") && word.find('=') == std::string::npos)
      folder = std::filesystem::path(word).parent_path().filename().string();
  }
  if (folder.empty() || folder.starts_with(".") || run.model == folder || run.model.starts_with(folder + "_")) return run.model;
  return concat(folder, "_", run.model);
}

}  // namespace

Comparison read_family(const std::vector<std::string>& folders, const std::string& command) {
  Comparison comparison = read_comparison(folders, command);
  std::map<std::string, int> uses;
  for (const ComparedModel& model : comparison.models) ++uses[family_name(model.first())];
  for (ComparedModel& model : comparison.models) {
    const std::string name = family_name(model.first());
    if (uses[name] == 1) model.name = name;
  }
  return comparison;
}

RunValue run_value(const FinishedRun& run) {
  if (run.result.contains("described") && run.result["described"].size() == 2) {
    std::vector<double> bits;
    for (const auto& [name, value] : run.result["described"].items())
      bits.push_back(value.is_number() ? value.get<double>() : std::nan(""));
    return {bits[1] / bits[0], "n-gram's bits / own bits"};
  }
  return {run.accuracy, "test accuracy"};
}

std::vector<BenchmarkResult> read_benchmarks(const std::string& path) {
  const ordered_json rows = ordered_json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  ADATAPE_CHECK(rows.is_array(), path, "expected the list that adatape_benchmarks --json writes");
  std::vector<BenchmarkResult> results;
  for (const ordered_json& row : rows) {
    const auto has = [&](const char* key, bool number) {
      return row.is_object() && row.contains(key) && (number ? row[key].is_number() : row[key].is_string());
    };
    ADATAPE_CHECK(has("name", false) && has("rival", false) && has("ours_ms", true) && has("rival_ms", true) && has("ratio", true) &&
                      has("goal", true),
                  path, "expected rows of name, rival, ours_ms, rival_ms, ratio and goal, got ",
                  row.dump(-1, ' ', true, ordered_json::error_handler_t::replace).substr(0, 80));
    BenchmarkResult result = {row["name"], row["rival"], row["ours_ms"], row["rival_ms"], row["ratio"], row["goal"]};
    if (!result.name.starts_with("halting_saved") && !result.name.starts_with("recurrent_halting")) continue;
    // Files of older versions have only what it makes together with the time.
    result.flops_saved = has("flops_saved", true) ? row["flops_saved"].get<double>() : result.time_saved() / result.ratio;
    results.push_back(std::move(result));
  }
  return results;
}

ordered_json family_results_json(const Comparison& comparison, const std::vector<BenchmarkResult>& benchmarks) {
  ordered_json results = measured_results_json(comparison);
  auto row = results["runs"].begin();  // rows stand model by model, and there seed by seed
  for (const ComparedModel& model : comparison.models) {
    for (const SeedRuns& seed : model.seeds) {
      const FinishedRun& run = *seed.chosen;
      const RunValue value = run_value(run);
      row->update({{"name", model.name},
                   {"value", value.value},
                   {"measure", value.measure},
                   {"goal", run.goal > 0 ? ordered_json(run.goal) : ordered_json()},
                   {"published", run.published}});
      ++row;
    }
  }
  ordered_json& saved = results["time_saved"] = ordered_json::array();
  for (const BenchmarkResult& benchmark : benchmarks) {
    saved.push_back({{"name", benchmark.name},
                     {"ours_ms", benchmark.ours_ms},
                     {"rival", benchmark.rival},
                     {"rival_ms", benchmark.rival_ms},
                     {"flops_saved", benchmark.flops_saved},
                     {"time_saved", benchmark.time_saved()},
                     {"ratio", benchmark.ratio},
                     {"goal", benchmark.goal}});
  }
  return results;
}

std::string family_text(const Comparison& comparison) {
  std::string text;
  for (const auto& [task, models] : by_task(comparison)) {
    Table table;
    table.columns = {{task, "", false},   {run_value(comparison.models[models.front()].first()).measure, "", true},
                     {"goal", "", true},  {"", "", false},
                     {"FLOPs", "", true}, {"steps", "", true}};
    for (const size_t index : models) {
      const ComparedModel& model = comparison.models[index];
      const FamilyLine line = line_of(model);
      table.rows.push_back({line.name, line.value, line.goal, line.verdict, count_text(mean_over_seeds(model, &FinishedRun::flops)),
                            grouped_digits(model.first().steps)});
    }
    text += table_text(table) + "\n";
  }
  return text;
}

std::string family_html(const Comparison& comparison, const std::vector<BenchmarkResult>& benchmarks) {
  ADATAPE_CHECK(comparison.measurements.size() == comparison.models.size(), "report", "expected a measurement of each of ",
                comparison.models.size(), " models, got ", comparison.measurements.size(), "; call measure() first");
  const auto tasks = by_task(comparison);
  Page page("adatape: the family");
  page.html(concat("<h1>The family</h1>\n<p class=\"soft\">", counted(comparison.models.size(), "model"), " on ",
                   counted(tasks.size(), "task"), ", ", counted(comparison.runs.size(), "run"), ", each against its own goal</p>\n"));
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    if (comparison.measurements[i].problem.empty()) continue;
    page.html(concat("<p class=\"note\">", escape_html(comparison.models[i].name),
                     ": computation against difficulty is missing, because the model could not be run: ",
                     escape_html(comparison.measurements[i].problem), "</p>\n"));
  }
  for (const std::string& folder : comparison.unfinished)
    page.html(concat("<p class=\"note\">", escape_html(folder), " is left out: ", why_without_result(folder), ".</p>\n"));
  add_summary(page, comparison);
  add_savings(page, benchmarks);
  for (const auto& [task, models] : tasks) add_task(page, comparison, task, models);
  add_run_details(page, comparison);
  page.html(concat("<p class=\"soft\">Made by <code>", escape_html(comparison.command), "</code>, adatape ", escape_html(kVersion),
                   ". The same rows as data: results.json.</p>\n"));
  return page.document();
}

void write_family(const Comparison& comparison, const std::vector<BenchmarkResult>& benchmarks, const std::string& folder) {
  write_page(
      folder, [&] { return family_html(comparison, benchmarks); }, family_results_json(comparison, benchmarks));
}

}  // namespace adatape
