#include "adatape/analysis/bank_grid.h"

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"

namespace adatape {

double BankGrid::centre_distance(int64_t row) const {
  const double y = (static_cast<double>(row / columns) + 0.5) * patch_height - image_height / 2;
  const double x = (static_cast<double>(row % columns) + 0.5) * patch_width - image_width / 2;
  return std::hypot(y, x) / std::hypot(image_height / 2, image_width / 2);
}

double BankGrid::share_inside(int64_t row, int64_t top, int64_t left, int64_t height, int64_t width) const {
  const auto overlap = [](double begin, double side, int64_t from, int64_t length) {
    const double shared = std::min(begin + side, static_cast<double>(from + length)) - std::max(begin, static_cast<double>(from));
    return std::max(0.0, shared) / side;
  };
  const int64_t down = row / columns, across = row % columns;
  return overlap(static_cast<double>(down) * patch_height, patch_height, top, height) *
         overlap(static_cast<double>(across) * patch_width, patch_width, left, width);
}

std::optional<BankGrid> bank_grid(const TapeFrontConfig& config, size_t reader, const InputSpec& input) {
  const std::string& name = config.readers.at(reader).bank;
  const auto bank = std::find_if(config.banks.begin(), config.banks.end(), [&](const TapeBankConfig& one) { return one.name == name; });
  ADATAPE_CHECK(bank != config.banks.end(), "tape usage", "expected a bank called ", name);
  if (bank->kind == "learnable" || input.kind != InputSpec::Kind::kImages) return std::nullopt;
  const int64_t height = bank->resolution > 0 ? bank->resolution : input.height,
                width = bank->resolution > 0 ? bank->resolution : input.width;
  const double scale_y = static_cast<double>(input.height) / static_cast<double>(height),
               scale_x = static_cast<double>(input.width) / static_cast<double>(width);
  return BankGrid{height / bank->patch,
                  width / bank->patch,
                  static_cast<double>(bank->patch) * scale_y,
                  static_cast<double>(bank->patch) * scale_x,
                  static_cast<double>(input.height),
                  static_cast<double>(input.width)};
}

void ObjectShare::add(const BankGrid& grid, const int64_t* indices, const float* weights, int64_t steps, int64_t rows_per_step,
                      const int64_t* box) {
  double count = 0, weight = 0, inside = 0, weight_inside = 0, all = 0;
  for (int64_t i = 0; i < steps * rows_per_step; ++i) {
    if (indices[i] < 0) continue;
    const double share = grid.share_inside(indices[i], box[0], box[1], box[2], box[3]);
    ++count;
    inside += share;
    weight += static_cast<double>(weights[i]);
    weight_inside += share * static_cast<double>(weights[i]);
  }
  if (count == 0) return;
  for (int64_t row = 0; row < grid.size(); ++row) all += grid.share_inside(row, box[0], box[1], box[2], box[3]);
  ++examples_;
  rows_ += inside / count;
  weighted_ += weight > 0 ? weight_inside / weight : 0;
  chance_ += all / static_cast<double>(grid.size());
}

}  // namespace adatape
