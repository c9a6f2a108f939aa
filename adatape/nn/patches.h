// Images to patch rows: what a convolution of kernel = stride reads, so that it is one matrix product.
#pragma once

#include <torch/types.h>

namespace adatape {

// images [B, C, H, W] -> [B * (H / patch) * (W / patch), C * patch * patch], row-major over patches, features in (channel, y, x) order;
// left-over pixels at the right and bottom are dropped.
torch::Tensor patch_rows(const torch::Tensor& images, int64_t patch);

}  // namespace adatape
