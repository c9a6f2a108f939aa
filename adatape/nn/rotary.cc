#include "adatape/nn/rotary.h"

#include "adatape/core/check.h"

namespace adatape {

torch::Tensor rotate_by_position(const torch::Tensor& x, const torch::Tensor& positions, double base) {
  const int64_t width = x.size(2), pairs = width / 2;
  ADATAPE_CHECK(width % 2 == 0, "rotary positions", "expected an even head width, got ", width);
  ADATAPE_CHECK(positions.dim() == 1 && positions.size(0) == x.size(0), "rotary positions", "expected ", x.size(0), " positions, got ",
                positions.sizes());
  // Angles in double: at position 100000 a float has lost two digits of the turn.
  const auto wide = positions.options().dtype(torch::kDouble);
  const torch::Tensor angle =
      positions.to(torch::kDouble).unsqueeze(1) * at::pow(base, torch::arange(pairs, wide) * (-2.0 / static_cast<double>(width)));
  const torch::Tensor cosine = angle.cos().to(x.scalar_type()).unsqueeze(1), sine = angle.sin().to(x.scalar_type()).unsqueeze(1);
  const torch::Tensor first = x.narrow(2, 0, pairs), second = x.narrow(2, pairs, pairs);
  return torch::cat({first * cosine - second * sine, second * cosine + first * sine}, 2);
}

}  // namespace adatape
