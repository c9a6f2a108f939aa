#include "adatape/analysis/survey_charts.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/core/number_text.h"

namespace adatape {
namespace {

constexpr const char* kLength = "tape tokens";

void add_group(Chart& chart, const std::string& name, const std::vector<double>& lengths) {
  const MeanAndDeviation spread = spread_of(lengths);
  chart.points.push_back({static_cast<double>(chart.points.size()), spread.mean, spread.deviation});
  chart.names.push_back(name);
}

}  // namespace

MeanAndDeviation spread_of(const std::vector<double>& values) {
  const double mean = mean_of(values);
  double square = 0;
  for (const double value : values) square += (value - mean) * (value - mean);
  return {mean, values.empty() ? 0 : std::sqrt(square / static_cast<double>(values.size()))};
}

std::string class_name(const ReadingSurvey& survey, int64_t index) {
  return index < static_cast<int64_t>(survey.class_names.size()) ? survey.class_names[static_cast<size_t>(index)] : std::to_string(index);
}

Chart centre_bias(const ReaderSurvey& reader) {
  ADATAPE_CHECK(reader.grid.has_value(), "analysis", "expected a bank whose rows have places, got \"", reader.bank, "\"");
  constexpr size_t kRings = 10;
  std::array<double, kRings> sums{}, counts{};
  for (int64_t row = 0; row < reader.grid->size(); ++row) {
    const auto ring = std::min(kRings - 1, static_cast<size_t>(reader.grid->centre_distance(row) * kRings));
    sums[ring] += reader.read[static_cast<size_t>(row)];
    ++counts[ring];
  }
  Chart chart;
  chart.x_title = "distance from the centre";
  chart.y_title = "share of examples that read a patch";
  chart.joined = chart.shares = true;
  chart.level = mean_of(reader.read);
  for (size_t ring = 0; ring < kRings; ++ring) {
    if (counts[ring] > 0) chart.points.push_back({(static_cast<double>(ring) + 0.5) / kRings, sums[ring] / counts[ring]});
  }
  return chart;
}

Chart length_by_class(const ReadingSurvey& survey) {
  std::map<int64_t, std::vector<double>> lengths;
  for (size_t i = 0; i < survey.lengths.size(); ++i) lengths[survey.labels[i]].push_back(survey.lengths[i]);
  Chart chart;
  chart.y_title = kLength;
  for (const auto& [label, values] : lengths) add_group(chart, class_name(survey, label), values);
  return chart;
}

Chart length_by_difficulty(const ReadingSurvey& survey, Difficulty difficulty) {
  const std::vector<double>& values = difficulty == Difficulty::kLoss ? survey.losses : survey.margins;
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  const size_t groups = std::min<size_t>(10, order.size());
  Chart chart;
  chart.x_title = difficulty == Difficulty::kLoss ? "loss, median of a tenth of the examples" : "margin, median of a tenth of the examples";
  chart.y_title = kLength;
  for (size_t g = 0; g < groups; ++g) {
    std::vector<double> lengths, of_group;
    for (size_t i = g * order.size() / groups; i < (g + 1) * order.size() / groups; ++i) {
      lengths.push_back(survey.lengths[order[i]]);
      of_group.push_back(values[order[i]]);
    }
    add_group(chart, number_text("%.3g", median_of(of_group)), lengths);
  }
  return chart;
}

}  // namespace adatape
