// What layers and blocks tell of the way that they took (ops/kernel_record.h).
#include "adatape/ops/kernel_record.h"

#include <gmock/gmock.h>

#include "adatape/nn/attention.h"
#include "adatape/nn/encoder_block.h"
#include "nn_cases.h"

namespace adatape {
namespace {

using ops::KernelRecord;
using ::testing::Contains;

TEST(KernelRecordTest, PackedWeightsThatCannotBeCutAreTold) {
  const torch::NoGradGuard no_grad;
  EncoderBlock block(EncoderBlockShape{.width = 24, .heads = 2, .ffn_width = 12});  // cuts a panel of 16 and of 32 columns
  block.pack_for_inference(torch::kFloat);
  const PackedTokens all = testing::random_pack({3, 2}, 24, 1);
  block.forward(all, {}, 0);
  EXPECT_THAT(ops::recorded_kernels(), Contains(KernelRecord{ops::kEncoderBlocks, "on packed weights"}));
  block.forward_queries(all.values, all.layout, all.values, *all.layout, {}, 0);
  EXPECT_THAT(ops::recorded_fallbacks(),
              Contains(KernelRecord{ops::kEncoderBlocks, "packed weights cannot be cut into queries and keys at this width"}));
  EXPECT_THAT(ops::recorded_kernels(), Contains(KernelRecord{ops::kEncoderBlocks, "layer by layer"}));
}

TEST(KernelRecordTest, RelativePositionsHaveNoKernelOverPackedTokens) {
  const PackedTokens x = testing::random_pack({3, 2}, 8, 1);
  AttentionOptions options;
  options.relative_bias = torch::zeros({2, 5});
  const torch::Tensor qkv = torch::cat({x.values, x.values, x.values}, 1).view({-1, 3, 2, 4});
  packed_self_attention(qkv, *x.layout, options);
  EXPECT_THAT(ops::recorded_fallbacks(),
              Contains(KernelRecord{ops::kAttention, "positions are relative, which no kernel over packed tokens takes"}));
  EXPECT_THAT(ops::recorded_kernels(), Contains(KernelRecord{ops::kAttention, "ATen over groups of equal lengths"}));
  linear(torch::zeros({2, 3}, torch::kDouble), torch::zeros({4, 3}, torch::kDouble), torch::Tensor());
  EXPECT_THAT(ops::recorded_kernels(), Contains(KernelRecord{ops::kMatrixProducts, "ATen"}));
}

}  // namespace
}  // namespace adatape
