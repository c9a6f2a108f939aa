#include "adatape/analysis/report.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>

#include "adatape/analysis/confusion.h"
#include "adatape/analysis/figures.h"
#include "adatape/analysis/frontier.h"
#include "adatape/analysis/html.h"
#include "adatape/analysis/page.h"
#include "adatape/analysis/reading_section.h"
#include "adatape/analysis/run_details.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/number_text.h"
#include "adatape/data/write_png.h"
#include "adatape/train/run_record.h"
#include "adatape/train/version.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

ModelIndices models_where(const Comparison& comparison, const std::function<bool(const ComparedModel&)>& wanted) {
  ModelIndices indices;
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    if (wanted(comparison.models[i])) indices.push_back(i);
  }
  return indices;
}

// Rows of the models named, each with how it was chosen and its description underneath: long texts that would squeeze the numbers.
void add_table(Page& page, const Comparison& comparison, const ModelIndices& indices) {
  std::vector<ComparedModel> models;
  for (const size_t index : indices) models.push_back(comparison.models[index]);
  const Table table = table_of(models);
  const bool with_choice = table.columns.back().title == kChosenColumn;
  const size_t columns = table.columns.size() - (with_choice ? 1 : 0);
  std::string html = "<div class=\"scroll\"><table><thead><tr>";
  for (size_t c = 0; c < columns; ++c) {
    const Column& column = table.columns[c];
    html += concat("<th", column.number ? " class=\"number\"" : "", " title=\"", escape_html(column.meaning), "\">",
                   escape_html(column.title), "</th>");
  }
  html += "</tr></thead><tbody>\n";
  for (size_t r = 0; r < table.rows.size(); ++r) {
    std::string about = models[r].first().description;
    if (const std::string choice = with_choice ? table.rows[r].back() : ""; !choice.empty()) {
      about = concat("Shown: ", choice, ", chosen by validation accuracy. ", about);
    }
    html += about.empty() ? "<tr>" : "<tr class=\"first\">";
    for (size_t c = 0; c < columns; ++c) {
      const std::string dot = c == 0 ? concat("<span class=\"dot\" style=\"background:", model_colour(indices[r]), "\"></span>") : "";
      const std::string cell = escape_html(table.rows[r][c]);
      const size_t plus_minus = cell.find(" +- ");
      html += concat("<td class=\"",
                     c == 0                    ? "name"
                     : table.columns[c].number ? "number"
                                               : "text",
                     "\">", dot, plus_minus == std::string::npos ? cell : cell.substr(0, plus_minus) + " ± " + cell.substr(plus_minus + 4),
                     "</td>");
    }
    html += "</tr>\n";
    if (!about.empty())
      html += concat("<tr><td class=\"wide\" colspan=\"", columns, "\"><span>", escape_html(about), "</span></td></tr>\n");
  }
  page.html(html + "</tbody></table></div>\n");
}

void add_meanings(Page& page, const Table& table) {
  std::string html = "<details><summary>What the columns mean</summary><dl>";
  for (const Column& column : table.columns)
    html += concat("<dt>", escape_html(column.title), "</dt><dd>", escape_html(column.meaning), "</dd>");
  page.html(html + "</dl></details>\n");
}

void add_curves(Page& page, const Comparison& comparison, const ModelIndices& models) {
  page.html("<div class=\"grid\">\n");
  page.figure(accuracy_curves(comparison, models, CurveAxis::kSteps),
              "Validation accuracy against steps. A line a run; a cross marks a draw of the weights that was given up, the next line "
              "begins anew. Pale lines: learning "
              "rates that were tried and not chosen.");
  page.figure(accuracy_curves(comparison, models, CurveAxis::kSeconds),
              "The same against the seconds spent in training steps, abandoned draws included.");
  if (const Figure bits = bits_curves(comparison, models); !bits["data"].empty())
    page.figure(bits, "Bits per byte of validation windows, which are never right as a whole.");
  page.figure(loss_curves(comparison, models), "Training loss, auxiliary losses included, means over the steps between two points.");
  page.html("</div>\n");
}

void add_tapes(Page& page, const Comparison& comparison, const ModelIndices& models) {
  const auto examples = comparison.measurements[models.front()].usage.examples;
  page.html("<h2>How much is read</h2>\n<p class=\"soft\">Measured on the first " + grouped_digits(examples) +
            " test examples with the model of each label's first seed.</p>\n<div class=\"grid\">\n");
  page.figure(tape_histogram(comparison, models),
              "Tape lengths: the share of examples that read so many tape tokens, all readers of the model together.");
  page.figure(tape_by_covariate(comparison, models),
              "Tape length against what the example is. Bars: one standard deviation over examples.");
  page.figure(accuracy_by_covariate_figure(comparison, models), "Test accuracy against what the example is, all test examples.");
  page.html("</div>\n");
}

void add_pondering(Page& page, const Comparison& comparison, const ModelIndices& models, const ModelIndices& answering) {
  page.html("<h2>How long is pondered</h2>\n<p class=\"soft\">Measured on the first " +
            grouped_digits(comparison.measurements[models.front()].usage.examples) +
            " test examples with the model of each label's first seed.</p>\n<div class=\"grid\">\n");
  page.figure(ponder_by_covariate(comparison, models),
              "Steps against how hard an example is, or an element of a sequence where the task tells them apart. Bars: one standard "
              "deviation.");
  if (const Figure places = ponder_by_position(comparison, models); !places["data"].empty())
    page.figure(places, "Steps against the place in the sequence, over all sequences that reach it. Bars: one standard deviation.");
  page.figure(accuracy_by_covariate_figure(comparison, answering), "Test accuracy against what the example is, all test examples.");
  page.html("</div>\n");
}

// The knob: accuracy over the range of tape lengths.
void add_knob(Page& page, const Comparison& comparison) {
  const ModelIndices swept = models_where(comparison, [&](const ComparedModel& model) {
    return !comparison.measurements[static_cast<size_t>(&model - comparison.models.data())].budgets.empty();
  });
  if (swept.empty()) return;
  page.html("<h2>What more tape buys</h2>\n<div class=\"grid\">\n");
  page.figure(
      budget_curves(comparison, swept),
      "Test accuracy of one trained model when its thresholds are moved to meet tape budgets, without training: bars are the spread of the "
      "tape length over examples, hollow points go beyond the longest tape of training. Thresholds are calibrated on validation examples.");
  page.html("</div>\n");
}

// On what the models with image banks read, where the task knows it.
void add_object_shares(Page& page, const Comparison& comparison, const ModelIndices& readers) {
  std::string rows;
  for (const size_t index : readers) {
    const ObjectShare& share = comparison.measurements[index].usage.on_object;
    if (share.examples() == 0) continue;
    rows += concat("<tr><td class=\"name\">", escape_html(comparison.models[index].name), "</td><td class=\"number\">",
                   percent_text(share.rows()), "</td><td class=\"number\">", percent_text(share.weighted()), "</td><td class=\"number\">",
                   percent_text(share.chance()), "</td></tr>\n");
  }
  if (rows.empty()) return;
  page.html(
      "<h3>What lies under the rows that are read</h3>\n<p class=\"soft\">Share of the bank rows read that lies on the thing to be "
      "recognised, the "
      "same with rows counted by weight, and what rows drawn at random would give: its share of the area.</p>\n<div "
      "class=\"scroll\"><table><thead><tr><th>model</th><th class=\"number\">on it</th><th class=\"number\">by weight</th><th "
      "class=\"number\">chance</th></tr></thead><tbody>\n" +
      rows + "</tbody></table></div>\n");
}

void add_problems(Page& page, const Comparison& comparison) {
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    const std::string& problem = comparison.measurements[i].problem;
    if (problem.empty()) continue;
    page.html(concat("<p class=\"note\">", escape_html(comparison.models[i].name),
                     ": tape lengths, readings and cost by part are missing, because the model could not be run: ", escape_html(problem),
                     "</p>\n"));
  }
  for (const std::string& folder : comparison.unfinished) {
    page.html(concat("<p class=\"note\">", escape_html(folder), " is left out: ", why_without_result(folder), ".</p>\n"));
  }
}

std::string subtitle(const Comparison& comparison) {
  std::set<std::string> tasks;
  std::set<int64_t> examples;
  for (const FinishedRun& run : comparison.runs) {
    tasks.insert(run.task);
    examples.insert(run.test_examples);
  }
  std::string names;
  for (const std::string& task : tasks) names += (names.empty() ? "" : ", ") + task;
  const std::string count = examples.size() == 1 ? grouped_digits(*examples.begin())
                                                 : concat(grouped_digits(*examples.begin()), " to ", grouped_digits(*examples.rbegin()));
  return concat(names, " · ", counted(comparison.models.size(), "model"), ", ", counted(comparison.runs.size(), "run"), " · accuracy on ",
                count, " test examples that neither stopped nor chose a run");
}

}  // namespace

std::string report_html(const Comparison& comparison) {
  ADATAPE_CHECK(comparison.measurements.size() == comparison.models.size(), "report", "expected a measurement of each of ",
                comparison.models.size(), " models, got ", comparison.measurements.size(), "; call measure() first");
  const ModelIndices all = models_where(comparison, [](const ComparedModel&) { return true; });
  const ModelIndices results = models_where(comparison, [](const ComparedModel& model) { return model.role != Role::kControl; });
  const ModelIndices controls = models_where(comparison, [](const ComparedModel& model) { return model.role == Role::kControl; });
  ModelIndices readers, ponderers;
  for (const size_t index : all) {
    if (comparison.measurements[index].usage.has_readers) readers.push_back(index);
    if (!comparison.measurements[index].usage.ponder_steps.empty()) ponderers.push_back(index);
  }

  Page page("adatape: " + counted(comparison.models.size(), "model") + " compared");
  page.html(concat("<h1>What the models did</h1>\n<p class=\"soft\">", escape_html(subtitle(comparison)), "</p>\n"));
  add_problems(page, comparison);
  if (!results.empty()) add_table(page, comparison, results);
  if (!controls.empty()) {
    page.html(
        "<h3>Controls</h3>\n<p class=\"soft\">Runs that take one thing away or put another in its place, so that one can tell what the "
        "result is owed to. Each says "
        "what it would mean.</p>\n");
    add_table(page, comparison, controls);
  }
  add_meanings(page, table_of(comparison.models));
  page.html("<h2>How they learned</h2>\n");
  if (!results.empty()) add_curves(page, comparison, results);
  if (!controls.empty()) {
    if (!results.empty()) page.html("<h3>Controls</h3>\n");
    add_curves(page, comparison, controls);
  }
  add_frontiers(page, comparison);
  add_confusions(page, comparison);
  add_knob(page, comparison);
  const Figure loads = expert_loads(comparison, all);
  if (!loads["data"].empty()) {
    page.html("<h2>What the experts do</h2>\n<div class=\"grid\">\n");
    page.figure(loads,
                "The share of a block's choices that each expert serves on test examples; even is 1 / experts. What is missing to 100 % "
                "was dropped.");
    page.html("</div>\n");
  }
  if (!readers.empty()) {
    add_tapes(page, comparison, readers);
    add_object_shares(page, comparison, readers);
    add_readings(page, comparison, readers);
  }
  if (!ponderers.empty()) add_pondering(page, comparison, ponderers, all);
  add_draws(page, comparison);
  add_run_details(page, comparison);
  page.html(concat("<p class=\"soft\">Made by <code>", escape_html(comparison.command), "</code>, adatape ", escape_html(kVersion),
                   ". The same rows as data: results.json.</p>\n"));
  return page.document();
}

std::vector<std::string> plotly_candidates() {
  std::vector<std::string> candidates;
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  if (!error) candidates.push_back((program.parent_path() / "plotly.min.js").string());
  candidates.emplace_back(ADATAPE_PLOTLY_JS);
  return candidates;
}

std::string plotly_script(const std::vector<std::string>& candidates) {
  const auto found = std::find_if(candidates.begin(), candidates.end(), [](const std::string& path) { return fs::exists(path); });
  std::string looked_for;
  for (const std::string& path : candidates) looked_for += (looked_for.empty() ? "" : " or ") + path;
  ADATAPE_CHECK(found != candidates.end(), "report", "expected plotly.js as ", looked_for, ", found none; `make setup` brings it");
  return read_file(*found);
}

void write_page(const std::string& folder, const std::function<std::string()>& html, const nlohmann::ordered_json& results,
                const std::vector<std::string>& plotly) {
  const std::string script = plotly_script(plotly), page = self_contained(html(), script);
  make_directories(folder);
  const fs::path root(folder);
  write_file_atomically((root / "results.json").string(), json_text(results, 2) + "\n");
  write_file_atomically((root / "report.html").string(), page);
}

void write_report(const Comparison& comparison, const std::string& folder, const std::vector<std::string>& plotly) {
  write_page(
      folder, [&] { return report_html(comparison); }, measured_results_json(comparison), plotly);
  write_png(folder + "/frontier.png", draw_chart(frontier_chart(comparison, speed_axis(comparison))));
}

}  // namespace adatape
