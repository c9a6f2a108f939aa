#include "adatape/analysis/frontier.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "adatape/analysis/html.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;

// Of a sample: divided by n - 1.
double deviation_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double square = 0;
  for (const double value : values) square += (value - mean) * (value - mean);
  return std::sqrt(square / static_cast<double>(values.size() - 1));
}

FrontierPoint point_of(const Comparison& comparison, size_t model, const CostAxis& axis) {
  const std::vector<double> costs = over_seeds(comparison.models[model], axis.value),
                            accuracies = over_seeds(comparison.models[model], &FinishedRun::accuracy);
  return {model, mean_of(costs), deviation_of(costs), mean_of(accuracies), deviation_of(accuracies), false};
}

const char* symbol_of(Role role) { return role == Role::kAdaptive ? "circle" : role == Role::kBaseline ? "square" : "diamond-open"; }

}  // namespace

std::vector<FrontierPoint> frontier_points(const Comparison& comparison, const CostAxis& axis) {
  std::vector<FrontierPoint> points;
  for (size_t model = 0; model < comparison.models.size(); ++model) {
    const FrontierPoint point = point_of(comparison, model, axis);
    const bool finite = std::isfinite(point.cost) && std::isfinite(point.accuracy);
    if (finite && comparison.models[model].role != Role::kControl) points.push_back(point);
  }
  std::stable_sort(points.begin(), points.end(), [](const FrontierPoint& a, const FrontierPoint& b) { return a.cost < b.cost; });
  const double sign = axis.more_is_better ? -1 : 1;
  for (FrontierPoint& point : points) {
    point.on_frontier = std::none_of(points.begin(), points.end(), [&](const FrontierPoint& other) {
      const bool as_good = sign * other.cost <= sign * point.cost && other.accuracy >= point.accuracy;
      return as_good && (other.cost != point.cost || other.accuracy != point.accuracy);
    });
  }
  return points;
}

Figure accuracy_against(const Comparison& comparison, const CostAxis& axis) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout(axis.title, "test accuracy", 340)}};
  figure["layout"]["yaxis"]["tickformat"] = ".4~%";
  figure["layout"]["showlegend"] = true;
  figure["layout"]["xaxis"]["exponentformat"] = "SI";
  double least = std::numeric_limits<double>::infinity(), most = 0, worst = 1, best = 0;
  for (const FinishedRun& run : comparison.runs) {
    worst = std::min(worst, run.accuracy);
    best = std::max(best, run.accuracy);
    least = std::min(least, run.*axis.value);
    most = std::max(most, run.*axis.value);
  }
  if (least > 0 && most > 20 * least) {
    figure["layout"]["xaxis"]["type"] = "log";
  } else {
    figure["layout"]["xaxis"]["rangemode"] = "tozero";
  }

  // About one accuracy alone plotly would lay an axis to 150 % and more.
  if (best - worst < 1e-6) figure["layout"]["yaxis"]["range"] = {std::max(0.0, best - 0.05), std::min(1.005, best + 0.05)};

  ordered_json line_x = ordered_json::array(), line_y = ordered_json::array();
  for (const FrontierPoint& point : frontier_points(comparison, axis)) {
    if (!point.on_frontier) continue;
    line_x.push_back(short_number(point.cost));
    line_y.push_back(short_number(point.accuracy));
  }
  figure["data"].push_back({{"type", "scatter"},
                            {"mode", "lines"},
                            {"x", line_x},
                            {"y", line_y},
                            {"name", "frontier"},
                            {"hoverinfo", "skip"},
                            {"line", {{"color", "#aab2bd"}, {"width", 1.5}, {"dash", "dot"}}}});

  for (size_t index = 0; index < comparison.models.size(); ++index) {
    const ComparedModel& model = comparison.models[index];
    const FrontierPoint point = point_of(comparison, index, axis);
    const std::string name = escape_html(model.name), group = concat("model ", index);
    const std::string seeds =
        model.seeds.size() == 1 ? concat("seed ", model.first().seed) : concat("mean of ", model.seeds.size(), " seeds");
    ordered_json trace = {{"type", "scatter"},
                          {"mode", "markers"},
                          {"x", {short_number(point.cost)}},
                          {"y", {short_number(point.accuracy)}},
                          {"text", {seeds}},
                          {"name", name},
                          {"legendgroup", group},
                          {"marker", {{"color", model_colour(index)}, {"size", 11}, {"symbol", symbol_of(model.role)}, {"opacity", 0.9}}},
                          {"hovertemplate", "%{y:.2%}, " + axis.title + " %{x:.4s}, %{text}<extra>" + name + "</extra>"}};
    if (model.seeds.size() > 1) {
      trace["error_x"] = {{"type", "data"}, {"array", {short_number(point.cost_deviation)}}, {"thickness", 1.2}, {"width", 3}};
      trace["error_y"] = {{"type", "data"}, {"array", {short_number(point.accuracy_deviation)}}, {"thickness", 1.2}, {"width", 3}};
    }
    figure["data"].push_back(std::move(trace));
    if (model.seeds.size() == 1) continue;
    ordered_json x = ordered_json::array(), y = ordered_json::array(), text = ordered_json::array();
    for (const SeedRuns& seed : model.seeds) {
      x.push_back(short_number(seed.chosen->*axis.value));
      y.push_back(short_number(seed.chosen->accuracy));
      text.push_back(concat("seed ", seed.chosen->seed));
    }
    figure["data"].push_back(
        {{"type", "scatter"},
         {"mode", "markers"},
         {"x", x},
         {"y", y},
         {"text", text},
         {"name", name},
         {"legendgroup", group},
         {"showlegend", false},
         {"marker", {{"color", model_colour(index)}, {"size", 6}, {"symbol", symbol_of(model.role)}, {"opacity", 0.4}}},
         {"hovertemplate", "%{y:.2%}, " + axis.title + " %{x:.4s}, %{text}<extra>" + name + "</extra>"}});
  }
  return figure;
}

Chart frontier_chart(const Comparison& comparison, const CostAxis& axis) {
  Chart chart;
  chart.x_title = axis.title;
  chart.y_title = "test accuracy";
  chart.joined = chart.shares = chart.tight = true;
  std::vector<FrontierPoint> points = frontier_points(comparison, axis);
  for (size_t model = 0; model < comparison.models.size(); ++model) {
    if (comparison.models[model].role == Role::kControl) points.push_back(point_of(comparison, model, axis));
  }
  for (const FrontierPoint& point : points) {
    const ComparedModel& model = comparison.models[point.model];
    chart.points.push_back(
        {point.cost, point.accuracy, point.accuracy_deviation, point.cost_deviation, model_colour(point.model), point.on_frontier});
    const size_t seeds = model.seeds.size();
    chart.legend.push_back(concat(model.name, "  ", percent_text(point.accuracy), "  ", count_text(point.cost), " ", axis.title, "  ",
                                  seeds == 1 ? "" : concat("mean of ", counted(seeds, "seed"), "  "),
                                  point.on_frontier ? "(no other beats it in both)" : ""));
  }
  return chart;
}

CostAxis speed_axis(const Comparison& comparison) {
  const bool images = std::all_of(comparison.runs.begin(), comparison.runs.end(), [](const FinishedRun& run) { return run.images; });
  return {&FinishedRun::examples_per_second, images ? "images a second" : "examples a second", true};
}

void add_frontiers(Page& page, const Comparison& comparison) {
  page.html("<h2>What accuracy costs</h2>\n<div class=\"grid\">\n");
  page.figure(accuracy_against(comparison, speed_axis(comparison)),
              std::string("Test accuracy against speed: examples a second of forward passes alone, ") +
                  (comparison.speed_measured ? "all models timed on one machine, one after the other" : "on the machine of the run") +
                  ". Circles: AdaTape, "
                  "squares: baselines, hollow diamonds: controls. Several seeds: the mean, bars of one standard deviation, and the seeds "
                  "in pale. The "
                  "dotted line joins the models that no other one beats in both.");
  page.figure(accuracy_against(comparison, {&FinishedRun::flops, "FLOPs of an example"}),
              "The same against the FLOPs of an example's forward pass, tokens really used.");
  page.figure(accuracy_against(comparison, {&FinishedRun::tokens, "tokens of an example"}),
              "The same against the tokens of an example in the longest block.");
  page.html("</div>\n");
}

}  // namespace adatape
