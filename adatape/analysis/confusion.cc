#include "adatape/analysis/confusion.h"

#include <algorithm>

#include "adatape/analysis/html.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/train/classification_metrics.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;
using Matrix = std::vector<std::vector<int64_t>>;

// Of the model's first seed; empty where the result has none that is square and larger than two classes. Of very many classes none is kept.
Matrix confusion_of(const ComparedModel& model) {
  const ordered_json& result = model.first().result;
  if (!result.contains("confusion") || !result.at("confusion").is_array()) return {};
  Matrix matrix;
  for (const ordered_json& row : result.at("confusion")) {
    if (!row.is_array() || row.size() != result.at("confusion").size()) return {};
    std::vector<int64_t>& counts = matrix.emplace_back();
    for (const ordered_json& count : row) {
      if (!count.is_number_integer()) return {};
      counts.push_back(count.get<int64_t>());
    }
  }
  return matrix.size() > 2 ? matrix : Matrix{};
}

}  // namespace

Figure confusion_figure(const Matrix& confusion, const std::vector<std::string>& names) {
  const size_t classes = confusion.size();
  ordered_json z = ordered_json::array(), text = ordered_json::array(), labels = ordered_json::array();
  for (size_t i = 0; i < classes; ++i) {
    labels.push_back(i < names.size() ? escape_html(names[i]) : std::to_string(i));
    int64_t total = 0;
    for (const int64_t count : confusion[i]) total += count;
    ordered_json shares = ordered_json::array(), notes = ordered_json::array();
    for (size_t j = 0; j < classes; ++j) {
      const double share = total > 0 ? static_cast<double>(confusion[i][j]) / static_cast<double>(total) : 0;
      shares.push_back(i == j ? ordered_json(nullptr) : short_number(share));
      notes.push_back(concat(confusion[i][j], " of ", total));
    }
    z.push_back(shares);
    text.push_back(notes);
  }
  const int side = std::clamp(140 + 26 * static_cast<int>(classes), 300, 900);
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("answer", "true class", side)}};
  figure["data"].push_back({{"type", "heatmap"},
                            {"x", labels},
                            {"y", labels},
                            {"z", z},
                            {"text", text},
                            {"colorscale", {{0, "#f6f8fa"}, {0.5, "#7ba4f4"}, {1, "#1d3f94"}}},
                            {"colorbar", {{"tickformat", ".0%"}, {"thickness", 12}}},
                            {"hovertemplate", "%{y} taken for %{x}: %{text}<extra></extra>"}});
  for (const char* axis : {"xaxis", "yaxis"}) figure["layout"][axis]["type"] = "category";  // classes called 1, 10, 2 are no numbers
  figure["layout"]["yaxis"]["autorange"] = "reversed";
  return figure;
}

void add_confusions(Page& page, const Comparison& comparison) {
  bool first = true;
  for (size_t i = 0; i < comparison.models.size(); ++i) {
    const ComparedModel& model = comparison.models[i];
    const std::vector<std::string>& names = comparison.measurements[i].class_names;
    const Matrix confusion = confusion_of(model);
    std::string numbers;
    const auto add = [&](const char* key, const std::string& name) {
      const ordered_json& result = model.first().result;
      if (result.contains(key) && result.at(key).is_number())
        numbers += concat(", ", name, " ", percent_text(result.at(key).get<double>()));
    };
    if (std::max(names.size(), confusion.size()) > 5) add("top5_accuracy", "top-5");  // of fewer classes it is 100 %
    add("calibration_error", "expected calibration error");
    const bool too_many = confusion.empty() && static_cast<int64_t>(names.size()) > ClassificationMetrics::kMostClasses;
    if (confusion.empty() && (!too_many || numbers.empty())) continue;
    if (first) page.html("<h2>What is taken for what</h2>\n");
    page.html(concat("<details class=\"run\"", first ? " open" : "", "><summary>", escape_html(model.name), ": top-1 ",
                     percent_text(model.first().accuracy), numbers, "</summary>\n"));
    if (too_many) {
      page.html(concat("<p>Which of ", names.size(), " classes is taken for which is kept for up to ", ClassificationMetrics::kMostClasses,
                       " classes.</p>\n"));
    } else {
      page.figure(confusion_figure(confusion, names),
                  "Wrong answers as shares of the true class's test examples; right ones are left blank. First seed.");
    }
    page.html("</details>\n");
    first = false;
  }
}

}  // namespace adatape
