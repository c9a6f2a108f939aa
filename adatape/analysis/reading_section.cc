#include "adatape/analysis/reading_section.h"

#include <set>

#include "adatape/analysis/html.h"
#include "adatape/analysis/reading_figures.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"

namespace adatape {
namespace {

std::string class_name(const ModelMeasurement& measurement, int64_t index) {
  return index >= 0 && index < static_cast<int64_t>(measurement.class_names.size()) ? measurement.class_names[static_cast<size_t>(index)]
                                                                                    : std::to_string(index);
}

std::string rule_of(const ExampleReading& reading) {
  const std::string bank = concat("Reader ", reading.reader, " reads bank \"", escape_html(reading.bank), "\" (",
                                  grouped_digits(reading.bank_rows), " rows) before block ", reading.before_block, ". ");
  if (reading.threshold) {
    return concat(bank, "It halts once the halting sum, the largest weight of each step added up, reaches ",
                  number_text("%g", *reading.threshold), ", at the latest after ", counted(static_cast<size_t>(reading.longest), "step"),
                  ".");
  }
  return concat(bank, "It has no halting threshold and takes ", counted(static_cast<size_t>(reading.longest), "step"), ".");
}

void add_steps_table(Page& page, const ShownExample& example, const ExampleReading& reading, const std::vector<std::string>& symbol_names) {
  std::string html =
      "<details><summary>The steps as a table</summary><div class=\"scroll tall\"><table><thead><tr><th "
      "class=\"number\">step</th><th>rows, weights</th>"
      "<th class=\"number\">halting sum</th></tr></thead><tbody>\n";
  for (size_t t = 0; t < reading.steps.size(); ++t) {
    std::string rows;
    for (size_t k = 0; k < reading.steps[t].rows.size(); ++k) {
      if (k == 24) {
        rows += concat(" and ", reading.steps[t].rows.size() - k, " more");
        break;
      }
      rows += concat(k == 0 ? "" : ", ", row_name(example, reading, reading.steps[t].rows[k], symbol_names), ": ",
                     number_text("%.3f", reading.steps[t].weights[k]));
    }
    const bool halts = t + 1 == reading.steps.size();
    html += concat("<tr><td class=\"number\">", t + 1, "</td><td>", rows, "</td><td class=\"number\">",
                   number_text("%.4f", reading.steps[t].halting), halts ? " halts" : "", "</td></tr>\n");
  }
  page.html(html + "</tbody></table></div></details>\n");
}

std::string reason(const ExampleReading& reading) {
  const size_t steps = reading.steps.size();
  const std::string after = concat("It halts after ", counted(steps, "step"));
  if (reading.threshold && steps > 0 && reading.steps.back().halting >= *reading.threshold - 1e-5)
    return after + ", where the halting sum has reached the threshold.";
  return static_cast<int64_t>(steps) >= reading.longest ? after + ", the longest tape or the end of the bank." : after + ".";
}

// explained: the rules that stand above already.
void add_example(Page& page, const ModelMeasurement& measurement, const ShownExample& example, std::set<std::string>& explained) {
  const bool right = example.label == example.answer;
  page.html(concat("<div class=\"example\"><h3>Test example ", example.index, ": ", escape_html(class_name(measurement, example.label)),
                   ", answered ", escape_html(class_name(measurement, example.answer)), right ? " (right)" : " (wrong)", "</h3>\n"));
  for (const ExampleReading& reading : example.readings) {
    const std::string rule = rule_of(reading);
    if (explained.insert(rule).second) {
      page.html(concat("<p class=\"soft\">", rule, "</p>\n"));
    } else if (example.readings.size() > 1) {
      page.html(concat("<p class=\"soft\">Reader ", reading.reader, ":</p>\n"));
    }
    const std::optional<Figure> places = read_places(example, reading, measurement.symbol_names);
    const bool picture = places && example.picture.height > 0;
    if (picture) page.html("<div class=\"picture\">\n");
    if (places) {
      page.figure(*places, picture ? "The patches that were read: colour and number say at which step, shading follows the weight."
                                   : "The sequence. Colour and the small number under each symbol say at which step it was read.");
    }
    page.figure(reading_steps(example, reading, measurement.symbol_names),
                concat("Above: the rows merged into each tape token and their weights",
                       example.symbols.empty() || reading.learnable ? " (the numbers are rows of the bank)" : "",
                       ". Below: the halting sum after each step. ", reason(reading)));
    if (picture) page.html("</div>\n");
    add_steps_table(page, example, reading, measurement.symbol_names);
  }
  page.html("</div>\n");
}

}  // namespace

void add_readings(Page& page, const Comparison& comparison, const ModelIndices& readers) {
  page.html(
      "<h2>What one example reads</h2>\n<p class=\"soft\">The first examples of the test split, chosen by nothing else; then the first one "
      "that the model gets wrong, if "
      "there is one among those measured.</p>\n");
  std::string menu;
  for (size_t i = 0; i < readers.size(); ++i) {
    menu += concat("<option value=\"", readers[i], "\"", i == 0 ? " selected" : "", ">", escape_html(comparison.models[readers[i]].name),
                   ", seed ", comparison.models[readers[i]].first().seed, "</option>");
  }
  page.html(concat("<p><label>Model <select id=\"reading-choice\" autocomplete=\"off\">", menu, "</select></label></p>\n"));
  for (size_t i = 0; i < readers.size(); ++i) {
    page.html(concat("<section class=\"reading\" data-model=\"", readers[i], "\"", i == 0 ? "" : " hidden", ">\n"));
    const ModelMeasurement& measurement = comparison.measurements[readers[i]];
    std::set<std::string> explained;
    for (const ShownExample& example : measurement.usage.shown) add_example(page, measurement, example, explained);
    page.html("</section>\n");
  }
}

}  // namespace adatape
