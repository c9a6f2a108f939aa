#include "adatape/analysis/curves.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "adatape/core/check.h"
#include "adatape/core/files.h"

namespace adatape {

Curves read_curves(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / "metrics.jsonl").string();
  Curves curves;
  if (!std::filesystem::exists(path)) return curves;
  std::istringstream lines(read_file(path));
  int64_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    ++count;
    const nlohmann::json point = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const auto is_number = [&](const char* key) { return point.is_object() && point.contains(key) && point[key].is_number(); };
    ADATAPE_CHECK(is_number("step") && is_number("draw"), path, "line ", count,
                  ": expected a JSON object with numbers as \"step\" and \"draw\"");
    const auto add = [&](const char* key, std::vector<CurvePoint>& to) {
      if (!is_number(key)) return;
      to.push_back({point["step"].get<int64_t>(), point["draw"].get<int64_t>(),
                    is_number("training_seconds") ? point["training_seconds"].get<double>() : 0, point[key].get<double>()});
    };
    add("validation_accuracy", curves.validation_accuracy);
    add("validation_loss", curves.validation_loss);
    add("loss", curves.training_loss);
  }
  return curves;
}

std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points, size_t count) {
  const size_t stride = count == 0 ? 1 : (points.size() + count - 1) / count;
  if (stride <= 1) return points;
  std::vector<CurvePoint> kept;
  for (size_t i = 0; i < points.size(); ++i) {
    const bool edge = i == 0 || i + 1 == points.size() || points[i].draw != points[i - 1].draw || points[i].draw != points[i + 1].draw;
    if (edge || i % stride == 0) kept.push_back(points[i]);
  }
  return kept;
}

}  // namespace adatape
