#include "adatape/analysis/run_details.h"

#include <cmath>

#include "adatape/analysis/figures.h"
#include "adatape/analysis/html.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;

double number_of(const ordered_json& value) { return value.is_number() ? value.get<double>() : std::nan(""); }

void add_run(Page& page, const FinishedRun& run, bool chosen) {
  const auto text = [&](const char* key) { return escape_html(run.result.at(key).get<std::string>()); };
  page.html(concat("<h3>seed ", run.seed, ", learning rate ", number_text("%g", run.learning_rate), chosen ? "" : " (not chosen)",
                   "</h3>\n<dl><dt>folder</dt><dd><code>", escape_html(run.folder), "</code></dd><dt>command</dt><dd><code>",
                   text("command"), "</code></dd><dt>version</dt><dd>", text("version"), "</dd><dt>device</dt><dd>", text("device"), ", ",
                   run.result.at("threads").dump(), " threads</dd><dt>parameters</dt><dd>",
                   grouped_digits(run.result.at("parameters").get<int64_t>()), "</dd><dt>test</dt><dd>", percent_text(run.accuracy), " of ",
                   grouped_digits(run.test_examples), " examples; validation ", percent_text(run.validation_accuracy),
                   "</dd></dl>\n<details><summary>config.toml</summary><pre>", escape_html(run.config_toml), "</pre></details>\n"));
}

}  // namespace

void add_draws(Page& page, const Comparison& comparison) {
  page.html(
      "<h2>Every draw</h2>\n<p class=\"soft\">All runs and all draws of their weights, with the steps and seconds that each took; none is "
      "left out of the training "
      "time.</p>\n<div class=\"scroll tall\"><table><thead><tr><th>model</th><th class=\"number\">seed</th><th class=\"number\">learning "
      "rate</th><th class=\"number\">draw</th>"
      "<th class=\"number\">steps</th><th class=\"number\">seconds</th><th class=\"number\">best validation "
      "accuracy</th></tr></thead><tbody>\n");
  for (const ComparedModel& model : comparison.models) {
    for (const SeedRuns& seed : model.seeds) {
      for (const FinishedRun* run : seed.tried) {
        size_t draw = 0;
        for (const ordered_json& record : run->result.at("draw_history")) {
          page.html(concat("<tr><td class=\"name\">", escape_html(model.name), "</td>", html_cell(std::to_string(run->seed)),
                           html_cell(number_text("%g", run->learning_rate) + (run == seed.chosen ? "" : " (not chosen)")),
                           html_cell(std::to_string(++draw)), html_cell(number_text("%.0f", number_of(record["steps"]))),
                           html_cell(number_text("%.2f", number_of(record["seconds"]))),
                           html_cell(percent_text(number_of(record["validation_accuracy"]))), "</tr>\n"));
        }
      }
    }
  }
  page.html("</tbody></table></div>\n");
}

void add_run_details(Page& page, const Comparison& comparison) {
  page.html("<h2>How each run was made</h2>\n");
  for (size_t index = 0; index < comparison.models.size(); ++index) {
    const ComparedModel& model = comparison.models[index];
    const TapeUsage& usage = comparison.measurements[index].usage;
    page.html(concat("<details class=\"run\"><summary>", escape_html(model.name), "</summary>\n"));
    if (!usage.cost.empty()) {
      page.figure(cost_bars(usage.cost),
                  concat("FLOPs of an example's forward pass by part, mean over ", grouped_digits(usage.examples), " test examples."));
    }
    for (const SeedRuns& seed : model.seeds) {
      for (const FinishedRun* run : seed.tried) add_run(page, *run, run == seed.chosen);
    }
    page.html("</details>\n");
  }
}

}  // namespace adatape
