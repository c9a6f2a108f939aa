#include "adatape/analysis/cost.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"

namespace adatape {
namespace {

constexpr double kNumber = 4;  // bytes of a float32

}  // namespace

void CostBreakdown::add(const ModelOutput& output, int64_t examples) {
  for (const WorkItem& item : output.work) {
    auto sum = std::find_if(sums_.begin(), sums_.end(), [&](const PartCost& part) { return part.part == item.part; });
    if (sum == sums_.end()) sum = sums_.insert(sums_.end(), {item.part});
    double rows = 0;
    for (const int64_t row : item.rows) rows += static_cast<double>(row);
    sum->flops += rows * static_cast<double>(item.flops_per_row);
    for (const int64_t numbers : item.numbers) sum->bytes += kNumber * static_cast<double>(numbers);
    sum->weight_bytes += rows > 0 ? kNumber * static_cast<double>(item.weights) : 0;
  }
  examples_ += examples;
  ++passes_;
}

std::vector<PartCost> CostBreakdown::parts() const {
  std::vector<PartCost> means = sums_;
  for (PartCost& part : means) {
    part.flops /= static_cast<double>(std::max<int64_t>(1, examples_));
    part.bytes /= static_cast<double>(std::max<int64_t>(1, examples_));
    part.weight_bytes /= static_cast<double>(std::max<int64_t>(1, passes_));
  }
  return means;
}

Table cost_table(const std::vector<PartCost>& parts) {
  Table table;
  table.columns = {{"part", "", false},
                   {"FLOPs", "of an example, 2 x multiply-adds", true},
                   {"share", "of the FLOPs", true},
                   {"bytes", "that come in and go out, of an example in float32", true},
                   {"weight bytes", "read once in a forward pass, in float32", true}};
  PartCost all{"all"};
  for (const PartCost& part : parts) {
    all.flops += part.flops;
    all.bytes += part.bytes;
    all.weight_bytes += part.weight_bytes;
  }
  const auto add = [&](const PartCost& part) {
    table.rows.push_back({part.part, format_count(part.flops), percent_text(all.flops > 0 ? part.flops / all.flops : 0),
                          format_count(part.bytes), format_count(part.weight_bytes)});
  };
  for (const PartCost& part : parts) add(part);
  add(all);
  return table;
}

nlohmann::ordered_json cost_json(const std::vector<PartCost>& parts) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const PartCost& part : parts)
    rows.push_back({{"part", part.part}, {"flops", part.flops}, {"bytes", part.bytes}, {"weight_bytes", part.weight_bytes}});
  return rows;
}

double CostBreakdown::flops() const {
  double sum = 0;
  for (const PartCost& part : parts()) sum += part.flops;
  return sum;
}

}  // namespace adatape
