#include "adatape/train/metrics_log.h"

#include <nlohmann/json.hpp>

namespace adatape {

MetricsLog::MetricsLog(const std::string& folder, int64_t keep_bytes, std::optional<int64_t> resumed_step)
    : lines_(folder + "/metrics.jsonl", keep_bytes), events_(folder) {
  if (resumed_step) events_.resumed_from(*resumed_step);
}

void MetricsLog::write(const std::string& group, int64_t step, int64_t draw, const std::map<std::string, double>& numbers) {
  nlohmann::ordered_json line = {{"step", step}, {"draw", draw}};
  for (const auto& [name, number] : numbers) {
    line[name] = number;
    const bool prefixed = name.starts_with(group + "_");  // "validation_accuracy" becomes "validation/accuracy"
    events_.scalar(group + "/" + (prefixed ? name.substr(group.size() + 1) : name), step, number);
  }
  lines_.append(line.dump() + "\n");
}

void MetricsLog::flush() {
  lines_.flush();
  events_.flush();
}

}  // namespace adatape
