// What is shown of the speed of models: the table, its JSON and the page.
#include <ATen/Parallel.h>

#include <algorithm>

#include "adatape/analysis/figures.h"
#include "adatape/analysis/html.h"
#include "adatape/analysis/model_speed.h"
#include "adatape/analysis/page.h"
#include "adatape/analysis/table.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"
#include "adatape/train/version.h"

namespace adatape {
namespace {

Table table_of(const std::vector<ModelSpeed>& speeds) {
  Table table;
  table.columns = {{"model", "published size, untrained", false},
                   {"parameters", "numbers that training would set", true},
                   {"tokens", "of an example in its longest block, tape tokens included", true},
                   {"tape", "of them, tape tokens (random weights)", true},
                   {"depth", "share of the blocks that the mean token runs through", true},
                   {"GFLOPs", "of an example, 2 x multiply-adds, what was really computed", true},
                   {"images/s", "median of the timed batches", true},
                   {"GFLOP/s", "FLOPs of an example x images/s", true}};
  for (const ModelSpeed& speed : speeds) {
    table.rows.push_back({speed.model, format_count(static_cast<double>(speed.parameters)), number_text("%.1f", speed.tokens),
                          speed.tape_tokens > 0 ? number_text("%.1f", speed.tape_tokens) : "-", percent_text(speed.depth),
                          number_text("%.2f", speed.flops / 1e9), number_text("%.4g", speed.images_per_second),
                          number_text("%.0f", speed.flops * speed.images_per_second / 1e9)});
  }
  return table;
}

// images/s against `cost`, a trace a family and patch, from its smallest model to its largest.
Figure speed_figure(const std::vector<ModelSpeed>& speeds, const std::function<double(const ModelSpeed&)>& cost, const std::string& title) {
  Figure figure = {{"data", Figure::array()}, {"layout", base_layout(title, "images/s", 420)}};
  figure["layout"]["xaxis"]["type"] = figure["layout"]["yaxis"]["type"] = "log";
  std::vector<std::string> families;
  std::vector<std::pair<std::string, int64_t>> lines;
  for (const ModelSpeed& speed : speeds) {
    if (std::find(families.begin(), families.end(), speed.family) == families.end()) families.push_back(speed.family);
    const std::pair<std::string, int64_t> line{speed.family, speed.patch};
    if (std::find(lines.begin(), lines.end(), line) == lines.end()) lines.push_back(line);
  }
  for (const auto& [family, patch] : lines) {
    std::vector<const ModelSpeed*> points;
    for (const ModelSpeed& speed : speeds) {
      if (speed.family == family && speed.patch == patch) points.push_back(&speed);
    }
    std::stable_sort(points.begin(), points.end(), [&](const ModelSpeed* a, const ModelSpeed* b) { return cost(*a) < cost(*b); });
    nlohmann::ordered_json x = nlohmann::ordered_json::array(), y = x, text = x;
    for (const ModelSpeed* point : points) {
      x.push_back(short_number(cost(*point)));
      y.push_back(short_number(point->images_per_second));
      text.push_back(point->model);
    }
    const std::string colour = model_colour(static_cast<size_t>(std::find(families.begin(), families.end(), family) - families.begin()));
    const bool fine = patch <= 16;
    figure["data"].push_back({{"type", "scatter"},
                              {"mode", "lines+markers"},
                              {"name", concat(family, "/", patch)},
                              {"x", x},
                              {"y", y},
                              {"text", text},
                              {"marker", {{"color", colour}, {"size", 9}, {"symbol", fine ? "circle" : "square"}}},
                              {"line", {{"color", colour}, {"width", 1.5}, {"dash", fine ? "solid" : "dot"}}},
                              {"hovertemplate", "%{text}<br>%{y:.4~g} images/s at %{x:.4~g}<extra></extra>"}});
  }
  return figure;
}

std::string conditions(const SpeedOptions& options) {
  return concat(options.image_size, " pixels, batch ", options.batch, ", float32, ", options.device.str(),
                options.device.is_cpu() ? concat(", ", counted(static_cast<size_t>(at::get_num_threads()), "thread")) : "");
}

}  // namespace

nlohmann::ordered_json speed_json(const std::vector<ModelSpeed>& speeds, const SpeedOptions& options, const std::string& command) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const ModelSpeed& speed : speeds) {
    rows.push_back({{"model", speed.model},
                    {"family", speed.family},
                    {"size", speed.size},
                    {"width", speed.width},
                    {"patch", speed.patch},
                    {"parameters", speed.parameters},
                    {"tokens", speed.tokens},
                    {"tape_tokens", speed.tape_tokens},
                    {"depth", speed.depth},
                    {"flops", speed.flops},
                    {"milliseconds", speed.milliseconds},
                    {"images_per_second", speed.images_per_second}});
  }
  return {{"command", command},
          {"version", kVersion},
          {"device", options.device.str()},
          {"threads", at::get_num_threads()},
          {"batch_size", options.batch},
          {"image_size", options.image_size},
          {"runs", std::move(rows)}};
}

std::string speed_text(const std::vector<ModelSpeed>& speeds) { return table_text(table_of(speeds)); }

std::string speed_html(const std::vector<ModelSpeed>& speeds, const SpeedOptions& options, const std::string& command) {
  Page page("adatape: speed of " + counted(speeds.size(), "model"));
  page.html(concat("<h1>How fast the models are</h1>\n<p class=\"soft\">Untrained, ", escape_html(conditions(options)),
                   ". A-ViT halts as its published FLOPs say, Universal Transformers at depths spread evenly unless the command says "
                   "otherwise; AdaTape reads what random weights make it read.</p>\n<div class=\"grid\">\n"));
  page.figure(speed_figure(
                  speeds, [](const ModelSpeed& speed) { return speed.flops; }, "FLOPs of an example"),
              "Images a second against the FLOPs really computed. A point a size; circles: patches of up to 16 pixels, squares: larger.");
  page.figure(speed_figure(
                  speeds, [](const ModelSpeed& speed) { return static_cast<double>(speed.parameters); }, "parameters"),
              "The same against parameters.");
  page.html("</div>\n<div class=\"scroll\"><table><thead><tr>");
  const Table table = table_of(speeds);
  const auto cell = [&](const char* tag, size_t column, const std::string& text) {
    page.html(concat("<", tag, table.columns[column].number ? " class=\"number\"" : "", " title=\"",
                     escape_html(table.columns[column].meaning), "\">", escape_html(text), "</", tag, ">"));
  };
  for (size_t c = 0; c < table.columns.size(); ++c) cell("th", c, table.columns[c].title);
  page.html("</tr></thead><tbody>\n");
  for (const std::vector<std::string>& row : table.rows) {
    page.html("<tr>");
    for (size_t c = 0; c < row.size(); ++c) cell("td", c, row[c]);
    page.html("</tr>\n");
  }
  page.html(concat("</tbody></table></div>\n<p class=\"soft\">Made by <code>", escape_html(command), "</code>, adatape ",
                   escape_html(kVersion), ". The same rows as data: results.json.</p>\n"));
  return page.document();
}

}  // namespace adatape
