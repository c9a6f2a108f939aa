#include "adatape/nn/mixed_precision.h"

#include <ATen/autocast_mode.h>

#include "adatape/core/check.h"

namespace adatape {

MixedPrecision::MixedPrecision(torch::Dtype products, torch::Device device) {
  if (products == torch::kFloat) return;
  ADATAPE_CHECK(products == torch::kBFloat16 && device.is_cuda(), "precision", "expected float32, or bfloat16 on a CUDA device, got ",
                products, " on ", device.str());
  scope_.emplace();
  before_ = at::autocast::is_autocast_enabled(at::kCUDA);
  at::autocast::set_autocast_enabled(at::kCUDA, true);
  at::autocast::set_autocast_dtype(at::kCUDA, at::kBFloat16);
  at::autocast::increment_nesting();
}

MixedPrecision::~MixedPrecision() {
  if (!scope_) return;
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCUDA, before_);
}

}  // namespace adatape
