// Products in bfloat16 on CUDA, for a while: forward passes made in the lifetime of one of these.
#pragma once

#include <torch/types.h>

#include <optional>

#include "adatape/ops/half_block/half_block.h"

namespace adatape {

// products: kFloat does nothing. kBFloat16 on CUDA: linear layers and attention take bfloat16 factors with sums in float32, as
// torch.autocast has it; weights stay float32 and so do norms' statistics, losses and, while training, the residual sums. Blocks are served
// by ops/half_block where it can. Of this thread alone. Error for kBFloat16 on other devices.
class MixedPrecision {
 public:
  MixedPrecision(torch::Dtype products, torch::Device device);
  ~MixedPrecision();
  MixedPrecision(const MixedPrecision&) = delete;
  MixedPrecision& operator=(const MixedPrecision&) = delete;

 private:
  std::optional<ops::HalfScope> scope_;
  bool before_ = false;
};

}  // namespace adatape
