#include "adatape/analysis/survey_page.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "adatape/analysis/html.h"
#include "adatape/analysis/page.h"
#include "adatape/analysis/reading_figures.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/core/utf8.h"
#include "adatape/train/version.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;

constexpr size_t kNamesOfAxis = 40, kClassesOnPage = 40;

Figure empty_figure(const std::string& x_title, const std::string& y_title, int height) {
  return {{"data", ordered_json::array()}, {"layout", base_layout(x_title, y_title, height)}};
}

Figure length_histogram(const ReadingSurvey& survey) {
  std::map<double, int64_t> counts;
  for (const double length : survey.lengths) ++counts[length];
  Figure figure = empty_figure("tape tokens", "share of examples", 300);
  ordered_json x = ordered_json::array(), y = ordered_json::array();
  for (const auto& [length, count] : counts) {
    x.push_back(length);
    y.push_back(short_number(static_cast<double>(count) / static_cast<double>(survey.examples)));
  }
  figure["data"].push_back({{"type", "bar"}, {"x", x}, {"y", y}, {"marker", {{"color", "#7ba4f4"}}}});
  figure["layout"]["yaxis"]["tickformat"] = ".0%";
  return figure;
}

void add_examples(Page& page, const ReadingSurvey& survey, const std::vector<ShownExample>& examples, const std::string& title,
                  const std::vector<std::string>& symbol_names) {
  page.html(concat("<h3>", title, "</h3>\n"));
  for (const ShownExample& example : examples) {
    int64_t tokens = 0;
    for (const ExampleReading& reading : example.readings) tokens += static_cast<int64_t>(reading.steps.size());
    page.html(concat("<div class=\"example\"><p>Test example ", example.index, ": ", escape_html(class_name(survey, example.label)),
                     example.answer == example.label ? "" : ", taken for " + escape_html(class_name(survey, example.answer)), ". ",
                     counted(static_cast<size_t>(tokens), "tape token"), ".</p>\n"));
    for (const ExampleReading& reading : example.readings) {
      page.html("<div class=\"picture\">\n");
      if (const std::optional<Figure> places = read_places(example, reading, symbol_names)) {
        page.figure(*places, concat("What reader ", reading.reader, " read: colour and number of the step, shaded by weight."));
      }
      page.figure(reading_steps(example, reading, symbol_names), "Weights of the rows merged at each step, and the halting sum.");
      page.html("</div>\n");
    }
    page.html("</div>\n");
  }
}

// Classes with examples, by number; of more than a page can show those whose readings are farthest from the mean of all examples.
std::vector<size_t> most_different_classes(const ReaderSurvey& reader) {
  std::vector<std::pair<double, size_t>> classes;  // minus the distance, class
  for (size_t c = 0; c < reader.by_class.size(); ++c) {
    double distance = 0;
    for (size_t row = 0; row < reader.by_class[c].size(); ++row) distance += std::abs(reader.by_class[c][row] - reader.read.at(row));
    if (!reader.by_class[c].empty()) classes.emplace_back(-distance, c);
  }
  if (classes.size() > kClassesOnPage) {
    std::sort(classes.begin(), classes.end());
    classes.resize(kClassesOnPage);
  }
  std::vector<size_t> shown;
  for (const auto& [distance, c] : classes) shown.push_back(c);
  std::sort(shown.begin(), shown.end());
  return shown;
}

void add_where(Page& page, const ReadingSurvey& survey) {
  page.html("<h2>Where it reads</h2>\n");
  if (survey.on_object.examples() > 0) {
    page.html(concat("<p>On the thing to be recognised lie <b>", percent_text(survey.on_object.rows()),
                     "</b> of the bank rows that were read (", percent_text(survey.on_object.weighted()), " by weight), against ",
                     percent_text(survey.on_object.chance()), " by chance, its share of the area.</p>\n"));
  }
  for (const ReaderSurvey& reader : survey.readers) {
    page.html(concat("<h3>Reader ", reader.reader, ", bank \"", escape_html(reader.bank), "\"</h3>\n"));
    if (!reader.grid) {
      std::vector<double> sorted = reader.read;
      std::sort(sorted.rbegin(), sorted.rend());
      const auto used = std::count_if(sorted.begin(), sorted.end(), [](double share) { return share > 0; });
      Figure figure = empty_figure("row, most read first", "share of examples", 300);
      ordered_json y = ordered_json::array();
      for (size_t i = 0; i < std::min<size_t>(sorted.size(), 500); ++i) y.push_back(short_number(sorted[i]));
      figure["data"].push_back({{"type", "scatter"}, {"mode", "lines"}, {"y", y}, {"fill", "tozeroy"}, {"line", {{"color", "#2563eb"}}}});
      figure["layout"]["yaxis"]["tickformat"] = ".0%";
      page.figure(figure, concat("Its rows have no place in an image. ", grouped_digits(used), " of them were read at all."));
      continue;
    }
    page.html("<div class=\"grid\">\n");
    page.figure(survey_heatmap(reader, -1), "Share of the examples that read each patch.");
    page.figure(
        figure_of(centre_bias(reader), 340),
        "Share of the examples that read a patch against its distance from the centre (1: a corner), and the mean of all patches (dotted). "
        "Where things lie in the middle of most pictures, as in Fashion-MNIST, reading the middle says nothing of a bias of the model.");
    const std::vector<size_t> classes = most_different_classes(reader);
    const auto with_examples =
        std::count_if(reader.by_class.begin(), reader.by_class.end(), [](const std::vector<double>& rows) { return !rows.empty(); });
    page.html(concat("</div>\n<details class=\"run\"><summary>By class",
                     classes.size() < static_cast<size_t>(with_examples)
                         ? concat(", the ", kClassesOnPage, " that differ most from the mean; all of them: reader_", reader.reader,
                                  "_classes.png and analysis.json")
                         : "",
                     "</summary><div class=\"grid\">\n"));
    for (const size_t c : classes) {
      page.figure(survey_heatmap(reader, static_cast<int64_t>(c)), class_name(survey, static_cast<int64_t>(c)));
    }
    page.html("</div></details>\n");
  }
}

}  // namespace

Figure survey_heatmap(const ReaderSurvey& reader, int64_t class_index) {
  ADATAPE_CHECK(reader.grid.has_value(), "analysis", "expected a bank whose rows have places, got \"", reader.bank, "\"");
  const std::vector<double>& values = class_index < 0 ? reader.read : reader.by_class.at(static_cast<size_t>(class_index));
  ordered_json z = ordered_json::array();
  for (int64_t y = 0; y < reader.grid->rows; ++y) {
    ordered_json line = ordered_json::array();
    for (int64_t x = 0; x < reader.grid->columns; ++x)
      line.push_back(short_number(values.at(static_cast<size_t>(y * reader.grid->columns + x))));
    z.push_back(std::move(line));
  }
  Figure figure = empty_figure("", "", class_index < 0 ? 340 : 240);
  figure["data"].push_back({{"type", "heatmap"},
                            {"z", z},
                            {"zmin", 0},
                            {"colorscale", {{0, "#0c073c"}, {0.25, "#57106e"}, {0.5, "#bc3754"}, {0.75, "#f98e09"}, {1, "#fcffa4"}}},
                            {"colorbar", {{"tickformat", ".0%"}, {"thickness", 10}}},
                            {"hovertemplate", "patch (%{y}, %{x}): %{z:.1%}<extra></extra>"}});
  figure["layout"]["yaxis"]["autorange"] = "reversed";
  figure["layout"]["yaxis"]["scaleanchor"] = "x";
  figure["layout"]["yaxis"]["scaleratio"] = short_number(reader.grid->patch_height / reader.grid->patch_width);
  figure["layout"]["yaxis"]["showgrid"] = figure["layout"]["xaxis"]["showgrid"] = false;
  figure["layout"]["yaxis"]["constrain"] = figure["layout"]["xaxis"]["constrain"] = "domain";
  return figure;
}

Figure figure_of(const Chart& chart, int height) {
  ordered_json x = ordered_json::array(), y = ordered_json::array(), deviations = ordered_json::array(), names = ordered_json::array();
  for (const Chart::Point& point : chart.points) {
    x.push_back(short_number(point.x));
    y.push_back(short_number(point.y));
    deviations.push_back(short_number(point.deviation));
  }
  for (const std::string& name : chart.names) names.push_back(escape_html(name));
  Figure figure = empty_figure(chart.x_title, chart.y_title, height);
  ordered_json trace = {
      {"type", "scatter"}, {"mode", chart.joined ? "lines+markers" : "markers"}, {"x", x}, {"y", y}, {"line", {{"color", "#2563eb"}}}};
  trace["marker"] = {{"color", "#2563eb"}, {"size", 9}};
  if (!names.empty()) {
    trace["text"] = names;
    trace["error_y"] = {{"type", "data"}, {"array", deviations}, {"thickness", 1.2}, {"width", 4}};
    trace["hovertemplate"] = "%{text}: %{y:.2f} +- %{error_y.array:.2f}<extra></extra>";
    // Each has its place: names may be equal. Of more than fit, one in `step` is written.
    const size_t step = (names.size() + kNamesOfAxis - 1) / kNamesOfAxis;
    ordered_json places = ordered_json::array(), written = ordered_json::array();
    for (size_t i = 0; i < names.size(); i += step) {
      places.push_back(x[i]);
      written.push_back(names[i]);
    }
    figure["layout"]["xaxis"]["tickvals"] = places;
    figure["layout"]["xaxis"]["ticktext"] = written;
  }
  figure["data"].push_back(trace);
  if (chart.level && !x.empty()) {
    const ordered_json level = short_number(*chart.level);
    figure["data"].push_back({{"type", "scatter"},
                              {"mode", "lines"},
                              {"x", {x.front(), x.back()}},
                              {"y", {level, level}},
                              {"name", "mean"},
                              {"line", {{"color", "#aab2bd"}, {"dash", "dot"}}}});
  }
  if (chart.shares) {
    figure["layout"]["yaxis"]["tickformat"] = ".0%";
    figure["layout"]["yaxis"]["rangemode"] = "tozero";
  }
  figure["layout"]["showlegend"] = false;
  return figure;
}

ordered_json survey_json(const ReadingSurvey& survey) {
  const MeanAndDeviation lengths = spread_of(survey.lengths);
  int64_t right = 0;
  for (size_t i = 0; i < survey.labels.size(); ++i) right += survey.labels[i] == survey.answers[i];
  ordered_json json = {{"examples", survey.examples},
                       {"class_names", survey.class_names},
                       {"accuracy", static_cast<double>(right) / static_cast<double>(survey.examples)},
                       {"tape_length_mean", lengths.mean},
                       {"tape_length_std", lengths.deviation}};
  if (survey.on_object.examples() > 0) {
    json["rows_on_object"] = {
        {"share", survey.on_object.rows()}, {"by_weight", survey.on_object.weighted()}, {"chance", survey.on_object.chance()}};
  }
  ordered_json& readers = json["readers"] = ordered_json::array();
  for (const ReaderSurvey& reader : survey.readers) {
    ordered_json one = {
        {"reader", reader.reader}, {"bank", reader.bank}, {"read", reader.read}, {"weight", reader.weight}, {"by_class", reader.by_class}};
    if (reader.grid) one["grid"] = {reader.grid->rows, reader.grid->columns};
    readers.push_back(std::move(one));
  }
  ordered_json& each = json["by_example"] = ordered_json::object();
  each["tape_length"] = survey.lengths;
  each["loss"] = survey.losses;
  each["margin"] = survey.margins;
  each["label"] = survey.labels;
  each["answer"] = survey.answers;
  return json;
}

std::string survey_html(const ReadingSurvey& survey, const std::string& title, const std::string& remark, const std::string& command,
                        const std::vector<std::string>& symbol_names, const std::vector<std::string>& notes) {
  const MeanAndDeviation lengths = spread_of(survey.lengths);
  Page page("adatape: what " + title + " reads");
  page.html(concat("<h1>What ", escape_html(title), " reads</h1>\n<p class=\"soft\">", grouped_digits(survey.examples), " test examples · ",
                   number_text("%.2f", lengths.mean), " ± ", number_text("%.2f", lengths.deviation), " tape tokens an example",
                   remark.empty() ? "" : " · " + escape_html(remark), "</p>\n"));
  for (const std::string& note : notes) page.html(concat("<p class=\"soft\">", escape_html(printable(note)), "</p>\n"));
  add_where(page, survey);
  page.html("<h2>How much it reads</h2>\n<div class=\"grid\">\n");
  page.figure(length_histogram(survey), "Tape lengths, all readers together.");
  page.figure(figure_of(length_by_class(survey), 320), "Tape length by class; bars: one standard deviation over examples.");
  page.figure(figure_of(length_by_difficulty(survey, Difficulty::kLoss), 320),
              "Tape length against the loss, ten groups of equal size from easy to hard.");
  page.figure(figure_of(length_by_difficulty(survey, Difficulty::kMargin), 320),
              "Tape length against the margin, the probability of the true class less the largest other one: from hard to easy.");
  page.html("</div>\n<h2>Shortest and longest tapes</h2>\n");
  add_examples(page, survey, survey.shortest, "Shortest", symbol_names);
  add_examples(page, survey, survey.longest, "Longest", symbol_names);
  page.html(concat("<p class=\"soft\">Made by <code>", escape_html(command), "</code>, adatape ", escape_html(kVersion),
                   ". The same numbers as data: analysis.json.</p>\n"));
  return page.document();
}

}  // namespace adatape
