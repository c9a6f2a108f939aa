#include "adatape/nn/patches.h"

namespace adatape {

torch::Tensor patch_rows(const torch::Tensor& images, int64_t patch) {
  const int64_t batch = images.size(0), channels = images.size(1), rows = images.size(2) / patch, columns = images.size(3) / patch;
  return images.narrow(2, 0, rows * patch)
      .narrow(3, 0, columns * patch)
      .reshape({batch, channels, rows, patch, columns, patch})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({batch * rows * columns, channels * patch * patch});
}

}  // namespace adatape
