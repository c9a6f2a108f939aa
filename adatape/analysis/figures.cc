#include "adatape/analysis/figures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>
#include <map>
#include <numeric>

#include "adatape/analysis/covariate_means.h"
#include "adatape/analysis/html.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;

constexpr size_t kCurvePoints = 200;  // of a run; more cannot be told apart
constexpr size_t kVisibleAtOnce = 8;  // models; the others wait in the legend

std::string shown_name(const Comparison& comparison, size_t model) { return escape_html(comparison.models[model].name); }

// The share that guessing gets, where all models answer once an example, with the same number of classes; 0 otherwise. (What guessing gets
// of whole sequences hangs on how many answers each has.)
double chance_of(const Comparison& comparison, const ModelIndices& models) {
  size_t classes = 0;
  for (const size_t model : models) {
    const size_t own = model < comparison.measurements.size() ? comparison.measurements[model].class_names.size() : 0;
    if (own == 0 || comparison.measurements[model].answers_each || (classes != 0 && own != classes)) return 0;
    classes = own;
  }
  return classes == 0 ? 0 : 1.0 / static_cast<double>(classes);
}

// plotly shows values that are all equal in the middle of two units, accuracies of 0 between -100 and 100 %.
void keep_flat_shares_in_range(Figure& figure) {
  double lowest = 1, highest = 0;
  for (const ordered_json& trace : figure["data"]) {
    for (const ordered_json& value : trace["y"]) {
      if (!value.is_number()) continue;
      lowest = std::min(lowest, value.get<double>());
      highest = std::max(highest, value.get<double>());
    }
  }
  if (lowest == highest) figure["layout"]["yaxis"]["range"] = {-0.02, 1.02};
}

ordered_json curve_trace(const std::vector<CurvePoint>& all, CurveAxis axis, bool markers, double scale) {
  const std::vector<CurvePoint> points = thinned(all, kCurvePoints);
  ordered_json x = ordered_json::array(), y = ordered_json::array(), symbols = ordered_json::array(), sizes = ordered_json::array(),
               text = ordered_json::array();
  const auto add = [&](ordered_json to_x, ordered_json to_y, const std::string& symbol, int size, const std::string& note) {
    x.push_back(std::move(to_x));
    y.push_back(std::move(to_y));
    symbols.push_back(symbol);
    sizes.push_back(size);
    text.push_back(note);
  };
  for (size_t i = 0; i < points.size(); ++i) {
    const CurvePoint& point = points[i];
    const bool abandoned = i + 1 < points.size() && points[i + 1].draw != point.draw;
    const std::string note = concat("draw ", point.draw + 1, abandoned ? ", abandoned here" : "");
    const ordered_json place = axis == CurveAxis::kSteps ? ordered_json(point.step) : short_number(point.seconds);
    add(place, short_number(scale * point.value), abandoned ? "x" : "circle", abandoned ? 10 : 5, note);
    if (abandoned) add(nullptr, nullptr, "circle", 5, "");
  }
  ordered_json trace = {{"type", "scatter"}, {"mode", markers ? "lines+markers" : "lines"}, {"x", x}, {"y", y}, {"text", text}};
  if (markers) trace["marker"] = {{"symbol", symbols}, {"size", sizes}};
  return trace;
}

Figure curves(const Comparison& comparison, const ModelIndices& models, CurveAxis axis, std::vector<CurvePoint> Curves::*values,
              bool markers, Figure figure, const std::string& y_format, double scale = 1) {
  const std::string x_name = axis == CurveAxis::kSteps ? "step" : "second";
  ordered_json& data = figure["data"] = ordered_json::array();
  for (size_t place = 0; place < models.size(); ++place) {
    const size_t index = models[place];
    bool named = false;
    for (const SeedRuns& seed : comparison.models[index].seeds) {
      for (const FinishedRun* run : seed.tried) {
        const bool chosen = run == seed.chosen;
        ordered_json trace = curve_trace(comparison.curves_of(*run).*values, axis, markers, scale);
        const bool in_legend = chosen && !named;
        named = named || in_legend;
        trace["name"] = shown_name(comparison, index);
        trace["legendgroup"] = concat("model ", index);
        trace["showlegend"] = in_legend;
        trace["opacity"] = chosen ? 1.0 : 0.35;
        trace["line"] = {{"color", model_colour(index)}, {"width", chosen ? 2 : 1}};
        if (place >= kVisibleAtOnce) trace["visible"] = "legendonly";
        trace["hovertemplate"] = concat("%{y:", y_format, "} at ", x_name, " %{x}<br>seed ", run->seed, ", learning rate ",
                                        number_text("%g", run->learning_rate), chosen ? "" : " (not chosen)", "<br>%{text}<extra>",
                                        shown_name(comparison, index), "</extra>");
        data.push_back(std::move(trace));
      }
    }
  }
  return figure;
}

// A number of each example or element, and what it is drawn against.
struct Measured {
  const std::vector<double>& values;
  const std::vector<double>& covariates;
  std::string covariate_name, unit;
};

// A line a model: means and standard deviations of `what` for each value of the covariate; models without values have none.
Figure means_figure(const Comparison& comparison, const ModelIndices& models, const std::string& what,
                    const std::function<Measured(const ModelMeasurement&)>& measured_of) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("", what, 340)}};
  for (const size_t index : models) {
    const ModelMeasurement& measurement = comparison.measurements[index];
    const Measured measured = measured_of(measurement);
    if (measured.values.empty()) continue;
    const bool classes = measured.covariate_name == "class";
    ordered_json x = ordered_json::array(), y = ordered_json::array(), deviations = ordered_json::array(), text = ordered_json::array();
    for (const CovariateMean& group : mean_by_covariate(measured.values, measured.covariates)) {
      const auto class_index = static_cast<size_t>(std::max(0.0, group.covariate));
      if (classes && class_index < measurement.class_names.size()) {
        x.push_back(escape_html(measurement.class_names[class_index]));
      } else {
        x.push_back(short_number(group.covariate));
      }
      y.push_back(short_number(group.mean));
      deviations.push_back(short_number(group.deviation));
      text.push_back(concat(group.count, " ", measured.unit, group.count == 1 ? "" : "s"));
    }
    ordered_json trace = {
        {"type", "scatter"},
        {"mode", classes ? "markers" : "lines+markers"},
        {"x", x},
        {"y", y},
        {"text", text},
        {"name", shown_name(comparison, index)},
        {"error_y", {{"type", "data"}, {"array", deviations}, {"thickness", 1}, {"width", 3}, {"color", model_colour(index)}}},
        {"line", {{"color", model_colour(index)}, {"width", 2}}},
        {"marker", {{"color", model_colour(index)}, {"size", 7}}},
        {"hovertemplate", "%{y:.2f} " + what + ", " + escape_html(measured.covariate_name) + " %{x}, %{text}<extra>" +
                              shown_name(comparison, index) + "</extra>"}};
    if (figure["data"].size() >= kVisibleAtOnce) trace["visible"] = "legendonly";
    figure["data"].push_back(std::move(trace));
    figure["layout"]["xaxis"]["title"]["text"] = escape_html(measured.covariate_name);
    if (classes) figure["layout"]["xaxis"]["type"] = "category";  // names of digits are no numbers
  }
  figure["layout"]["yaxis"]["rangemode"] = "tozero";
  figure["layout"]["showlegend"] = true;
  return figure;
}

}  // namespace

ordered_json short_number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::strtod(number_text("%.5g", value).c_str(), nullptr);
}

ordered_json base_layout(const std::string& x_title, const std::string& y_title, int height) {
  const ordered_json axis = {{"gridcolor", "#eceff3"}, {"linecolor", "#c5ccd6"}, {"zeroline", false},     {"automargin", true},
                             {"ticks", "outside"},     {"ticklen", 4},           {"tickcolor", "#c5ccd6"}};
  ordered_json x = axis, y = axis;
  x["title"] = {{"text", x_title}, {"standoff", 8}};
  y["title"] = {{"text", y_title}, {"standoff", 8}};
  return {{"height", height},
          {"margin", {{"l", 56}, {"r", 16}, {"t", 16}, {"b", 48}}},
          {"font",
           {{"family", "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"}, {"size", 12}, {"color", "#39424e"}}},
          {"modebar", {{"bgcolor", "rgba(255,255,255,0.7)"}, {"color", "#aab2bd"}, {"activecolor", "#39424e"}}},
          {"paper_bgcolor", "rgba(0,0,0,0)"},
          {"plot_bgcolor", "rgba(0,0,0,0)"},
          {"hoverlabel", {{"bgcolor", "#ffffff"}, {"bordercolor", "#c5ccd6"}, {"font", {{"color", "#1d232b"}}}}},
          {"legend", {{"orientation", "h"}, {"x", 0}, {"y", 1.02}, {"yanchor", "bottom"}}},
          {"xaxis", x},
          {"yaxis", y}};
}

std::string model_colour(size_t model) {
  constexpr std::array<const char*, 10> kColours = {"#2563eb", "#e8590c", "#2f9e44", "#9c36b5", "#d6336c",
                                                    "#0c8599", "#b08900", "#5f3dc4", "#6b7684", "#e03131"};
  return kColours[model % kColours.size()];
}

Figure accuracy_curves(const Comparison& comparison, const ModelIndices& models, CurveAxis axis) {
  Figure figure = {{"data", {}},
                   {"layout", base_layout(axis == CurveAxis::kSteps ? "training steps, all draws" : "training seconds, all draws",
                                          "validation accuracy", 360)}};
  figure["layout"]["yaxis"]["tickformat"] = ".3~%";
  if (const double chance = chance_of(comparison, models); chance > 0) {
    figure["layout"]["shapes"].push_back({{"type", "line"},
                                          {"xref", "paper"},
                                          {"x0", 0},
                                          {"x1", 1},
                                          {"y0", chance},
                                          {"y1", chance},
                                          {"line", {{"color", "#8c96a3"}, {"width", 1}, {"dash", "dot"}}}});
    figure["layout"]["annotations"].push_back({{"xref", "paper"},
                                               {"x", 1},
                                               {"xanchor", "right"},
                                               {"y", chance},
                                               {"yanchor", "top"},
                                               {"text", "guessing"},
                                               {"showarrow", false},
                                               {"font", {{"size", 11}, {"color", "#8c96a3"}}}});
  }
  figure = curves(comparison, models, axis, &Curves::validation_accuracy, /*markers=*/true, std::move(figure), ".2%");
  keep_flat_shares_in_range(figure);
  return figure;
}

Figure bits_curves(const Comparison& comparison, const ModelIndices& models) {
  ModelIndices texts;
  for (const size_t index : models) {
    const ordered_json described = comparison.models[index].first().result.value("described", ordered_json::object());
    if (described.contains("bits per byte")) texts.push_back(index);
  }
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("training steps, all draws", "validation bits per byte", 360)}};
  return curves(comparison, texts, CurveAxis::kSteps, &Curves::validation_loss, /*markers=*/true, std::move(figure), ".3f",
                1 / std::log(2.0));
}

Figure loss_curves(const Comparison& comparison, const ModelIndices& models) {
  Figure figure = {{"data", {}}, {"layout", base_layout("training steps, all draws", "training loss", 360)}};
  return curves(comparison, models, CurveAxis::kSteps, &Curves::training_loss, /*markers=*/false, std::move(figure), ".4g");
}

Figure tape_histogram(const Comparison& comparison, const ModelIndices& models) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("tape tokens of an example", "share of test examples", 340)}};
  figure["layout"]["barmode"] = "group";
  figure["layout"]["yaxis"]["tickformat"] = ".3~%";
  figure["layout"]["yaxis"]["rangemode"] = "tozero";
  int64_t shortest = INT64_MAX, longest = 0;
  for (const size_t index : models) {
    const TapeUsage& usage = comparison.measurements[index].usage;
    if (usage.lengths.empty()) continue;
    std::map<int64_t, int64_t> counts;
    for (const double length : usage.lengths) ++counts[std::llround(length)];
    ordered_json x = ordered_json::array(), y = ordered_json::array();
    for (const auto& [length, count] : counts) {
      x.push_back(length);
      y.push_back(short_number(static_cast<double>(count) / static_cast<double>(usage.lengths.size())));
      shortest = std::min(shortest, length);
      longest = std::max(longest, length);
    }
    ordered_json trace = {
        {"type", "bar"},
        {"x", x},
        {"y", y},
        {"name", shown_name(comparison, index)},
        {"marker", {{"color", model_colour(index)}}},
        {"hovertemplate", "%{y:.2%} of the examples read %{x} tape tokens<extra>" + shown_name(comparison, index) + "</extra>"}};
    if (figure["data"].size() >= kVisibleAtOnce) trace["visible"] = "legendonly";
    figure["data"].push_back(std::move(trace));
  }
  if (longest > 0 && longest - shortest <= 24) {
    // Whole numbers on the axis, and room beside a single bar.
    figure["layout"]["xaxis"]["dtick"] = 1;
    figure["layout"]["xaxis"]["range"] = {std::min<double>(static_cast<double>(shortest), static_cast<double>(longest) - 4) - 0.6,
                                          static_cast<double>(longest) + 1.6};
  }
  figure["layout"]["showlegend"] = true;
  return figure;
}

Figure tape_by_covariate(const Comparison& comparison, const ModelIndices& models) {
  return means_figure(comparison, models, "tape tokens", [](const ModelMeasurement& measurement) {
    return Measured{measurement.usage.lengths, measurement.usage.covariates, measurement.covariate_name, "example"};
  });
}

Figure ponder_by_covariate(const Comparison& comparison, const ModelIndices& models) {
  return means_figure(comparison, models, "steps", [](const ModelMeasurement& measurement) {
    const TapeUsage& usage = measurement.usage;
    return Measured{usage.ponder_steps, usage.ponder_covariates,
                    usage.ponder_by_element ? measurement.element_covariate_name : measurement.covariate_name,
                    usage.ponder_by_element ? "element" : "example"};
  });
}

Figure ponder_by_position(const Comparison& comparison, const ModelIndices& models) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("place in the sequence", "steps", 340)}};
  figure["layout"]["yaxis"]["rangemode"] = "tozero";
  for (const size_t index : models) {
    const std::vector<TapeUsage::PositionSteps>& positions = comparison.measurements[index].usage.ponder_positions;
    if (positions.empty()) continue;
    ordered_json x = ordered_json::array(), y = ordered_json::array(), spread = ordered_json::array(), text = ordered_json::array();
    for (size_t place = 0; place < positions.size(); ++place) {
      x.push_back(place + 1);
      y.push_back(short_number(positions[place].mean()));
      spread.push_back(short_number(positions[place].deviation()));
      text.push_back(positions[place].examples);
    }
    ordered_json trace = {
        {"type", "scatter"},
        {"mode", "lines+markers"},
        {"x", x},
        {"y", y},
        {"text", text},
        {"error_y", {{"type", "data"}, {"array", spread}, {"thickness", 1}, {"width", 2}}},
        {"name", shown_name(comparison, index)},
        {"line", {{"color", model_colour(index)}, {"width", 2}}},
        {"marker", {{"color", model_colour(index)}, {"size", 5}}},
        {"hovertemplate", "%{y:.2f} steps at place %{x} of %{text} sequences<extra>" + shown_name(comparison, index) + "</extra>"}};
    if (figure["data"].size() >= kVisibleAtOnce) trace["visible"] = "legendonly";
    figure["data"].push_back(std::move(trace));
  }
  figure["layout"]["showlegend"] = true;
  return figure;
}

Figure accuracy_by_covariate_figure(const Comparison& comparison, const ModelIndices& models) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("", "test accuracy", 340)}};
  for (const size_t index : models) {
    const ordered_json& result = comparison.models[index].first().result;
    if (!result.contains("accuracy_by_covariate")) continue;
    const ordered_json& by = result["accuracy_by_covariate"];
    if (!by.is_object() || !by.contains("groups") || !by["groups"].is_array() || by["groups"].size() < 2) continue;
    ordered_json x = ordered_json::array(), y = ordered_json::array(), text = ordered_json::array();
    const std::string name = by.value("covariate", ordered_json("")).is_string() ? by["covariate"].get<std::string>() : "";
    const bool classes = name == "class";
    const size_t named = index < comparison.measurements.size() ? comparison.measurements[index].class_names.size() : 0;
    for (const ordered_json& group : by["groups"]) {
      const ordered_json value = group.value("value", ordered_json());
      const double place = classes && value.is_number() ? value.get<double>() : -1;
      const bool is_named = place >= 0 && place < static_cast<double>(named);
      x.push_back(is_named ? ordered_json(escape_html(comparison.measurements[index].class_names[static_cast<size_t>(place)])) : value);
      y.push_back(group.value("accuracy", ordered_json()));
      text.push_back(group.value("examples", ordered_json()));
    }
    ordered_json trace = {{"type", "scatter"},
                          {"mode", classes ? "markers" : "lines+markers"},
                          {"x", x},
                          {"y", y},
                          {"text", text},
                          {"name", shown_name(comparison, index)},
                          {"line", {{"color", model_colour(index)}, {"width", 2}}},
                          {"marker", {{"color", model_colour(index)}, {"size", 6}}},
                          {"hovertemplate", "%{y:.2%} of %{text} examples, " + escape_html(name) + " %{x}<extra>" +
                                                shown_name(comparison, index) + "</extra>"}};
    if (figure["data"].size() >= kVisibleAtOnce) trace["visible"] = "legendonly";
    figure["data"].push_back(std::move(trace));
    figure["layout"]["xaxis"]["title"]["text"] = escape_html(name);
  }
  figure["layout"]["yaxis"]["tickformat"] = ".4~%";
  figure["layout"]["showlegend"] = true;
  keep_flat_shares_in_range(figure);
  return figure;
}

Figure expert_loads(const Comparison& comparison, const ModelIndices& models) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("expert", "share of the choices", 340)}};
  for (const size_t index : models) {
    const ordered_json blocks = comparison.models[index].first().result.value("experts", ordered_json::array());
    for (const ordered_json& block : blocks) {
      ordered_json share = ordered_json::array(), text = ordered_json::array();
      const std::vector<double> served = block.at("served").get<std::vector<double>>();
      const double all = std::accumulate(served.begin(), served.end(), 0.0), dropped = block.at("dropped").get<double>();
      for (const double count : served) {
        share.push_back(short_number(all > 0 ? count / all * (1 - dropped) : 0));
        text.push_back(short_number(dropped));
      }
      const std::string name = shown_name(comparison, index) + ", " + escape_html(block.at("part").get<std::string>());
      ordered_json trace = {{"type", "bar"}, {"y", share},
                            {"text", text},  {"textposition", "none"},
                            {"name", name},  {"hovertemplate", "expert %{x}: %{y:.1%}; dropped %{text:.1%}<extra>" + name + "</extra>"}};
      figure["data"].push_back(std::move(trace));
    }
  }
  figure["layout"]["yaxis"]["tickformat"] = ".0%";
  figure["layout"]["yaxis"]["rangemode"] = "tozero";
  figure["layout"]["showlegend"] = true;
  return figure;
}

Figure budget_curves(const Comparison& comparison, const ModelIndices& models) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("tape tokens of an example", "test accuracy", 360)}};
  figure["layout"]["yaxis"]["tickformat"] = ".4~%";
  figure["layout"]["showlegend"] = true;
  for (const size_t index : models) {
    ordered_json x = ordered_json::array(), y = ordered_json::array(), spread = ordered_json::array(), symbols = ordered_json::array(),
                 text = ordered_json::array();
    for (const auto& [setting, result] : comparison.measurements[index].budgets) {
      x.push_back(short_number(result.tape_length_mean));
      y.push_back(short_number(result.accuracy));
      spread.push_back(short_number(result.tape_length_std));
      symbols.push_back(setting.beyond_training ? "circle-open" : "circle");
      text.push_back(concat("budget ", escape_html(setting.budget.text), ", ", format_count(result.flops, "FLOPs"),
                            setting.beyond_training ? ", beyond training" : ""));
    }
    figure["data"].push_back(
        {{"type", "scatter"},
         {"mode", "lines+markers"},
         {"x", x},
         {"y", y},
         {"text", text},
         {"name", shown_name(comparison, index)},
         {"error_x", {{"type", "data"}, {"array", spread}, {"thickness", 1}, {"width", 3}}},
         {"line", {{"color", model_colour(index)}, {"width", 2}}},
         {"marker", {{"symbol", symbols}, {"size", 8}}},
         {"hovertemplate", "%{y:.2%} with %{x:.2f} tape tokens<br>%{text}<extra>" + shown_name(comparison, index) + "</extra>"}});
  }
  return figure;
}

Figure cost_bars(const std::vector<PartCost>& parts) {
  Figure figure = {{"data", ordered_json::array()},
                   {"layout", base_layout("FLOPs of an example", "", 70 + 22 * static_cast<int>(std::max<size_t>(1, parts.size())))}};
  ordered_json names = ordered_json::array(), flops = ordered_json::array(), text = ordered_json::array(), bytes = ordered_json::array();
  double total = 0;
  for (const PartCost& part : parts) total += part.flops;
  for (const PartCost& part : parts) {
    names.push_back(escape_html(part.part));
    flops.push_back(short_number(part.flops));
    text.push_back(concat(format_count(part.flops), number_text("  (%.1f %%)", total > 0 ? 100 * part.flops / total : 0)));
    bytes.push_back(concat(format_count(part.bytes, "B"), " an example, weights ", format_count(part.weight_bytes, "B"), " a pass"));
  }
  figure["data"].push_back({{"type", "bar"},
                            {"orientation", "h"},
                            {"y", names},
                            {"x", flops},
                            {"text", text},
                            {"textposition", "auto"},
                            {"customdata", bytes},
                            {"cliponaxis", false},
                            {"marker", {{"color", "#7ba4f4"}}},
                            {"hovertemplate", "%{y}: %{text}<br>%{customdata}<extra></extra>"}});
  figure["layout"]["yaxis"]["autorange"] = "reversed";
  figure["layout"]["yaxis"]["ticks"] = "";
  figure["layout"]["xaxis"]["exponentformat"] = "SI";
  return figure;
}

}  // namespace adatape
