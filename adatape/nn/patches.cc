#include "adatape/nn/patches.h"

#include <ATen/Parallel.h>

#include <cstring>

#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/half_block/half_block.h"

namespace adatape {
namespace {

// The lines of one row of patches, kPatch pixels each: a constant, so that a copy is a move or two and no call.
template <int64_t kPatch>
void copy_lines(const float* pixels, int64_t patch, int64_t columns, int64_t features, float* to) {
  const size_t bytes = static_cast<size_t>(kPatch > 0 ? kPatch : patch) * sizeof(float);
  for (int64_t column = 0; column < columns; ++column, pixels += patch, to += features) std::memcpy(to, pixels, bytes);
}

// images [B, C, H, W] of float32 on the CPU, pixels of a line adjacent.
torch::Tensor copied_rows(const torch::Tensor& images, int64_t patch) {
  const int64_t channels = images.size(1), rows = images.size(2) / patch, columns = images.size(3) / patch;
  const int64_t features = channels * patch * patch, bands = images.size(0) * rows;
  torch::Tensor out = at::empty({bands * columns, features}, images.options());
  const auto copy = patch == 4 ? copy_lines<4> : patch == 8 ? copy_lines<8> : patch == 16 ? copy_lines<16> : copy_lines<0>;
  const float* const all = images.const_data_ptr<float>();
  float* const to = out.mutable_data_ptr<float>();
  at::parallel_for(0, bands, ops::cpu::grain(columns * features), [&](int64_t begin, int64_t end) {
    for (int64_t band = begin; band < end; ++band) {
      for (int64_t channel = 0; channel < channels; ++channel) {
        const float* const lines =
            all + band / rows * images.stride(0) + channel * images.stride(1) + band % rows * patch * images.stride(2);
        for (int64_t y = 0; y < patch; ++y)
          copy(lines + y * images.stride(2), patch, columns, features, to + band * columns * features + (channel * patch + y) * patch);
      }
    }
  });
  return out;
}

}  // namespace

torch::Tensor patch_rows(const torch::Tensor& given, int64_t patch) {
  // What multiplies them takes half as many bytes: better before they are put in order than after.
  const torch::Tensor images = given.is_cuda() && ops::half_products() ? given.to(torch::kBFloat16) : given;
  const bool gradient = images.requires_grad() && at::GradMode::is_enabled();
  if (images.is_cpu() && images.scalar_type() == torch::kFloat && images.stride(3) == 1 && !gradient) return copied_rows(images, patch);
  const int64_t batch = images.size(0), channels = images.size(1), rows = images.size(2) / patch, columns = images.size(3) / patch;
  return images.narrow(2, 0, rows * patch)
      .narrow(3, 0, columns * patch)
      .reshape({batch, channels, rows, patch, columns, patch})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({batch * rows * columns, channels * patch * patch});
}

}  // namespace adatape
