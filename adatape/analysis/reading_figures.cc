#include "adatape/analysis/reading_figures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "adatape/analysis/html.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kSymbolsInLine = 64;
constexpr size_t kRowsInBar = 12;  // the rest of a step is one piece

using Rgb = std::array<double, 3>;
constexpr std::array<Rgb, 5> kStepColours = {{{59, 82, 190}, {33, 134, 187}, {42, 176, 127}, {154, 205, 70}, {247, 203, 45}}};

Rgb step_rgb(size_t step, size_t steps) {
  const double place = steps > 1 ? static_cast<double>(step) / static_cast<double>(steps - 1) * (kStepColours.size() - 1) : 0;
  const size_t from = std::min(static_cast<size_t>(place), kStepColours.size() - 2);
  Rgb colour{};
  for (size_t c = 0; c < 3; ++c)
    colour[c] = kStepColours[from][c] + (place - static_cast<double>(from)) * (kStepColours[from + 1][c] - kStepColours[from][c]);
  return colour;
}

std::string translucent(const Rgb& colour, double opacity) {
  return concat("rgba(", std::lround(colour[0]), ",", std::lround(colour[1]), ",", std::lround(colour[2]), ",",
                number_text("%.3f", opacity), ")");
}

std::string hex(const Rgb& colour) {
  std::array<char, 8> text{};
  std::snprintf(text.data(), text.size(), "#%02x%02x%02x", static_cast<int>(std::lround(colour[0])),
                static_cast<int>(std::lround(colour[1])), static_cast<int>(std::lround(colour[2])));
  return text.data();
}

std::string symbol_name(int64_t symbol, const std::vector<std::string>& names) {
  return symbol >= 0 && symbol < static_cast<int64_t>(names.size()) ? escape_html(names[static_cast<size_t>(symbol)])
                                                                    : std::to_string(symbol);
}

std::string symbol_colour(int64_t symbol) {
  constexpr std::array<const char*, 8> kColours = {"#e8590c", "#adb5bd", "#2563eb", "#2f9e44", "#9c36b5", "#d6336c", "#0c8599", "#b08900"};
  return kColours[static_cast<size_t>(symbol) % kColours.size()];
}

// Columns of the grid of bank patches, and the side of a patch as a share of the image.
struct PatchGrid {
  int64_t columns;
  double width, height;
};

PatchGrid grid_of(const Picture& picture, const ExampleReading& reading) {
  const int64_t height = reading.resolution > 0 ? reading.resolution : picture.height,
                width = reading.resolution > 0 ? reading.resolution : picture.width;
  return {std::max<int64_t>(1, width / reading.patch), static_cast<double>(reading.patch) / static_cast<double>(width),
          static_cast<double>(reading.patch) / static_cast<double>(height)};
}

Figure symbol_strip(const ShownExample& example, const ExampleReading& reading, const std::vector<std::string>& names) {
  const auto length = static_cast<int64_t>(example.symbols.size());
  std::vector<int64_t> step_of(example.symbols.size(), -1);
  std::vector<double> weight_of(example.symbols.size(), 0);
  for (size_t t = 0; t < reading.steps.size(); ++t) {
    for (size_t k = 0; k < reading.steps[t].rows.size(); ++k) {
      const auto row = static_cast<size_t>(reading.steps[t].rows[k]);
      ADATAPE_CHECK(row < step_of.size(), "report", "expected rows below ", length, ", got ", row);
      step_of[row] = static_cast<int64_t>(t);
      weight_of[row] = reading.steps[t].weights[k];
    }
  }
  const int64_t columns = std::min(length, kSymbolsInLine), lines = (length + columns - 1) / std::max<int64_t>(columns, 1);
  ordered_json z = ordered_json::array(), text = ordered_json::array(), hover = ordered_json::array();
  for (int64_t line = 0; line < lines; ++line) {
    ordered_json z_line = ordered_json::array(), text_line = ordered_json::array(), hover_line = ordered_json::array();
    for (int64_t column = 0; column < columns; ++column) {
      const auto place = static_cast<size_t>(line * columns + column);
      if (place >= example.symbols.size()) {
        z_line.push_back(nullptr);
        text_line.push_back("");
        hover_line.push_back("");
        continue;
      }
      const std::string name = symbol_name(example.symbols[place], names);
      const bool read = step_of[place] >= 0;
      z_line.push_back(read ? ordered_json(step_of[place] + 1) : ordered_json(nullptr));
      text_line.push_back(read ? concat("<b>", name, "</b><br>", step_of[place] + 1) : concat("<b>", name, "</b><br>-"));
      hover_line.push_back(read ? concat("position ", place, ": ", name, ", read at step ", step_of[place] + 1, " with weight ",
                                         number_text("%.3f", weight_of[place]))
                                : concat("position ", place, ": ", name, ", not read"));
    }
    z.push_back(z_line);
    text.push_back(text_line);
    hover.push_back(hover_line);
  }
  ordered_json scale = ordered_json::array();
  for (size_t i = 0; i < kStepColours.size(); ++i)
    scale.push_back({static_cast<double>(i) / (kStepColours.size() - 1), hex(kStepColours[i])});
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("", "", static_cast<int>(34 + 46 * lines))}};
  figure["data"].push_back({{"type", "heatmap"},
                            {"z", z},
                            {"zmin", 1},
                            {"zmax", std::max<size_t>(2, reading.steps.size())},
                            {"text", text},
                            {"texttemplate", "%{text}"},
                            {"hovertext", hover},
                            {"hovertemplate", "%{hovertext}<extra></extra>"},
                            {"colorscale", scale},
                            {"showscale", false},
                            {"xgap", 2},
                            {"ygap", 3}});
  figure["layout"]["margin"] = {{"l", 8}, {"r", 8}, {"t", 6}, {"b", 24}};
  figure["layout"]["plot_bgcolor"] = "#eef1f5";
  figure["layout"]["yaxis"] = {{"visible", false}, {"autorange", "reversed"}, {"fixedrange", true}};
  figure["layout"]["xaxis"]["showgrid"] = false;
  figure["layout"]["xaxis"]["ticks"] = "";
  figure["layout"]["xaxis"]["dtick"] = columns > 40 ? 8 : 4;
  figure["layout"]["xaxis"]["range"] = {-0.5, static_cast<double>(columns) - 0.5};
  return figure;
}

Figure read_patches(const ShownExample& example, const ExampleReading& reading) {
  const int64_t height = example.picture.height, width = example.picture.width;
  ordered_json z = ordered_json::array();
  for (int64_t y = 0; y < height; ++y) {
    ordered_json line = ordered_json::array();
    for (int64_t x = 0; x < width; ++x) {
      const uint8_t* pixel = example.picture.row(y) + 3 * x;
      line.push_back({pixel[0], pixel[1], pixel[2]});
    }
    z.push_back(std::move(line));
  }
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("", "", 400)}};
  figure["data"].push_back({{"type", "image"}, {"z", z}, {"hoverinfo", "skip"}});
  ordered_json shapes = ordered_json::array(), x = ordered_json::array(), y = ordered_json::array(), numbers = ordered_json::array(),
               hover = ordered_json::array();
  const PatchGrid grid = grid_of(example.picture, reading);
  for (size_t t = 0; t < reading.steps.size(); ++t) {
    const ReadingStep& step = reading.steps[t];
    const std::string colour = step_colour(t, reading.steps.size());
    for (size_t k = 0; k < step.rows.size(); ++k) {
      const int64_t row = step.rows[k] / grid.columns, column = step.rows[k] % grid.columns;
      // Pixel i covers i - 0.5 .. i + 0.5 on an image's axis.
      const auto place_x = [&](double at) { return at * grid.width * static_cast<double>(width) - 0.5; };
      const auto place_y = [&](double at) { return at * grid.height * static_cast<double>(height) - 0.5; };
      const double c = static_cast<double>(column), r = static_cast<double>(row), inset = 0.04;
      shapes.push_back({{"type", "rect"},
                        {"x0", place_x(c + inset)},
                        {"x1", place_x(c + 1 - inset)},
                        {"y0", place_y(r + inset)},
                        {"y1", place_y(r + 1 - inset)},
                        {"line", {{"color", colour}, {"width", 2}}},
                        {"fillcolor", translucent(step_rgb(t, reading.steps.size()), 0.15 + 0.65 * step.weights[k])}});
      x.push_back(short_number(place_x(c + 0.5)));
      y.push_back(short_number(place_y(r + 0.5)));
      // An annotation, because text of a trace lies below shapes.
      numbers.push_back({{"x", x.back()},
                         {"y", y.back()},
                         {"text", concat("<b>", t + 1, "</b>")},
                         {"showarrow", false},
                         {"captureevents", false},
                         {"font", {{"color", "#ffffff"}, {"size", 13}, {"shadow", "0 0 3px #000, 0 0 3px #000"}}}});
      hover.push_back(
          concat("patch at row ", row, ", column ", column, ": step ", t + 1, ", weight ", number_text("%.3f", step.weights[k])));
    }
  }
  figure["data"].push_back({{"type", "scatter"},
                            {"mode", "markers"},
                            {"x", x},
                            {"y", y},
                            {"marker", {{"opacity", 0}, {"size", 20}}},
                            {"hovertext", hover},
                            {"hovertemplate", "%{hovertext}<extra></extra>"},
                            {"showlegend", false}});
  figure["layout"]["shapes"] = shapes;
  figure["layout"]["annotations"] = numbers;
  figure["layout"]["margin"] = {{"l", 4}, {"r", 4}, {"t", 4}, {"b", 4}};
  figure["layout"]["xaxis"] = {{"visible", false}, {"range", {-0.5, static_cast<double>(width) - 0.5}}, {"constrain", "domain"}};
  figure["layout"]["yaxis"] = {
      {"visible", false}, {"range", {static_cast<double>(height) - 0.5, -0.5}}, {"scaleanchor", "x"}, {"constrain", "domain"}};
  return figure;
}

}  // namespace

std::string step_colour(size_t step, size_t steps) { return hex(step_rgb(step, steps)); }

std::string row_name(const ShownExample& example, const ExampleReading& reading, int64_t row,
                     const std::vector<std::string>& symbol_names) {
  if (reading.learnable) return concat("row ", row);
  if (!example.symbols.empty()) return concat(symbol_name(example.symbols.at(static_cast<size_t>(row)), symbol_names), " at ", row);
  const PatchGrid grid = grid_of(example.picture, reading);
  return concat("patch (", row / grid.columns, ", ", row % grid.columns, ")");
}

std::optional<Figure> read_places(const ShownExample& example, const ExampleReading& reading,
                                  const std::vector<std::string>& symbol_names) {
  if (reading.learnable) return std::nullopt;
  return example.picture.height > 0 ? read_patches(example, reading) : symbol_strip(example, reading, symbol_names);
}

Figure reading_steps(const ShownExample& example, const ExampleReading& reading, const std::vector<std::string>& symbol_names) {
  Figure figure = {{"data", ordered_json::array()}, {"layout", base_layout("step", "weights", 400)}};
  ordered_json& data = figure["data"];
  const bool by_symbol = !example.symbols.empty() && !reading.learnable, labelled = reading.steps.size() <= 40;
  size_t widest = 0;
  for (const ReadingStep& step : reading.steps) widest = std::max(widest, step.rows.size());
  for (size_t k = 0; k < std::min(widest, kRowsInBar); ++k) {
    ordered_json x = ordered_json::array(), y = ordered_json::array(), colours = ordered_json::array(), text = ordered_json::array(),
                 hover = ordered_json::array();
    for (size_t t = 0; t < reading.steps.size(); ++t) {
      const ReadingStep& step = reading.steps[t];
      if (k >= step.rows.size()) continue;
      x.push_back(t + 1);
      const std::string name = row_name(example, reading, step.rows[k], symbol_names);
      if (k + 1 == kRowsInBar && step.rows.size() > kRowsInBar) {
        double rest = 0;
        for (size_t i = k; i < step.weights.size(); ++i) rest += step.weights[i];
        y.push_back(short_number(rest));
        colours.push_back("#ced4da");
        text.push_back("");
        hover.push_back(concat(step.rows.size() - k, " more rows, weight ", number_text("%.3f", rest)));
        continue;
      }
      y.push_back(short_number(step.weights[k]));
      colours.push_back(by_symbol ? symbol_colour(example.symbols.at(static_cast<size_t>(step.rows[k])))
                                  : step_colour(t, reading.steps.size()));
      text.push_back(!labelled   ? ""
                     : by_symbol ? symbol_name(example.symbols.at(static_cast<size_t>(step.rows[k])), symbol_names)
                                 : std::to_string(step.rows[k]));
      hover.push_back(concat(name, ", weight ", number_text("%.3f", step.weights[k])));
    }
    data.push_back({{"type", "bar"},
                    {"x", x},
                    {"y", y},
                    {"text", text},
                    {"textposition", "inside"},
                    {"insidetextanchor", "middle"},
                    {"textangle", 0},
                    {"hovertext", hover},
                    {"hovertemplate", "step %{x}: %{hovertext}<extra></extra>"},
                    {"marker", {{"color", colours}, {"line", {{"color", "#ffffff"}, {"width", 1.5}}}}},
                    {"showlegend", false}});
  }
  ordered_json x = ordered_json::array({0}), sums = ordered_json::array({0});
  for (size_t t = 0; t < reading.steps.size(); ++t) {
    x.push_back(t + 1);
    sums.push_back(short_number(reading.steps[t].halting));
  }
  const ordered_json line = {{"color", "#39424e"}, {"width", 2}};
  data.push_back({{"type", "scatter"},
                  {"mode", "lines+markers"},
                  {"x", x},
                  {"y", sums},
                  {"yaxis", "y2"},
                  {"name", "halting sum"},
                  {"line", line},
                  {"marker", {{"size", 5}}},
                  {"hovertemplate", "after step %{x}: %{y:.4f}<extra>halting sum</extra>"}});
  if (!reading.steps.empty()) {
    data.push_back({{"type", "scatter"},
                    {"mode", "markers"},
                    {"x", ordered_json::array({reading.steps.size()})},
                    {"y", ordered_json::array({short_number(reading.steps.back().halting)})},
                    {"yaxis", "y2"},
                    {"name", "halts"},
                    {"marker", {{"size", 13}, {"symbol", "circle-open"}, {"color", "#d6336c"}, {"line", {{"width", 3}}}}},
                    {"hovertemplate", "halts after step %{x}<extra></extra>"}});
  }
  ordered_json& layout = figure["layout"];
  const auto right_end = static_cast<double>(reading.steps.size()) + 0.6;
  if (reading.threshold) {
    data.push_back({{"type", "scatter"},
                    {"mode", "lines"},
                    {"x", {0, right_end}},
                    {"y", {short_number(*reading.threshold), short_number(*reading.threshold)}},
                    {"yaxis", "y2"},
                    {"name", concat("threshold ", number_text("%g", *reading.threshold))},
                    {"line", {{"color", "#d6336c"}, {"width", 1.5}, {"dash", "dash"}}},
                    {"hoverinfo", "skip"}});
  }
  layout["barmode"] = "stack";
  layout["bargap"] = 0.12;
  layout["xaxis"]["range"] = {0, right_end};
  if (reading.steps.size() <= 40) layout["xaxis"]["dtick"] = 1;
  layout["xaxis"]["anchor"] = "y2";
  layout["yaxis"]["domain"] = {0.5, 1};
  layout["yaxis"]["range"] = {0, 1};
  layout["yaxis2"] = layout["yaxis"];
  layout["yaxis2"]["domain"] = {0, 0.42};
  layout["yaxis2"]["title"]["text"] = "halting sum";
  layout["yaxis2"].erase("range");
  layout["yaxis2"]["rangemode"] = "tozero";
  layout["legend"]["y"] = 1.01;
  return figure;
}

}  // namespace adatape
