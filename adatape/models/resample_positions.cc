#include "adatape/models/resample_positions.h"

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/cat.h>

#include <cmath>

#include "adatape/core/check.h"

namespace adatape {
namespace {

// The square of so many cells, or nothing.
std::optional<Grid> square_of(int64_t cells) {
  const auto side = static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(std::max<int64_t>(cells, 0)))));
  return side > 0 && side * side == cells ? std::optional<Grid>(Grid{side, side}) : std::nullopt;
}

}  // namespace

torch::Tensor resample_positions(const torch::Tensor& positions, int64_t prefix, Grid from, Grid to) {
  ADATAPE_CHECK(positions.dim() == 2 && positions.size(0) == prefix + from.rows * from.columns, "positions", "expected [", prefix, " + ",
                from.rows, " x ", from.columns, ", D], got ", positions.sizes());
  if (from == to) return positions;
  const at::NoGradGuard no_grad;
  const int64_t width = positions.size(1);
  const torch::Tensor grid = positions.narrow(0, prefix, from.rows * from.columns)
                                 .to(torch::kFloat32)
                                 .view({1, from.rows, from.columns, width})
                                 .permute({0, 3, 1, 2});
  const torch::Tensor resampled = at::_upsample_bicubic2d_aa(grid, {to.rows, to.columns}, /*align_corners=*/false);
  return torch::cat({positions.narrow(0, 0, prefix), resampled.permute({0, 2, 3, 1}).reshape({-1, width}).to(positions.scalar_type())});
}

torch::Tensor fit_positions(const torch::Tensor& positions, const std::string& parameter, const Model& model, const InputSpec& input,
                            const InputSpec* before) {
  if (input.kind != InputSpec::Kind::kImages) return positions;
  const std::string module = parameter.substr(0, parameter.rfind('.'));
  torch::Tensor wanted, patch_weight;
  int64_t prefix = 0;
  for (const NamedParameter& named : model.named_parameters()) {
    if (named.name == parameter) wanted = named.tensor;
    if (named.name == module + ".patch_weight") patch_weight = named.tensor;
    if (named.name == module + ".class_token") prefix = 1;
  }
  if (!wanted.defined() || !patch_weight.defined() || positions.dim() != 2) return positions;
  // Of so many cells: the whole image's grid, or a square, because a bank may see the image at another resolution.
  const auto grid_of = [&](const InputSpec* image, int64_t cells) {
    const Grid whole = image == nullptr ? Grid{} : Grid{image->height / patch_weight.size(2), image->width / patch_weight.size(3)};
    return whole.rows * whole.columns == cells ? std::optional<Grid>(whole) : square_of(cells);
  };
  const std::optional<Grid> to = grid_of(&input, wanted.size(0) - prefix), from = grid_of(before, positions.size(0) - prefix);
  if (positions.size(0) == wanted.size(0) && (before == nullptr || from == to)) return positions;
  ADATAPE_CHECK(from && to, parameter, "expected the positions of a square of patches", prefix > 0 ? " and a class token" : "",
                ", which could be resampled to ", input.height / patch_weight.size(2), " x ", input.width / patch_weight.size(3), ", got ",
                positions.size(0), " of them");
  return resample_positions(positions, prefix, *from, *to);
}

}  // namespace adatape
