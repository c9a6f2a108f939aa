#include "adatape/convert/timm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adatape {
namespace {

using ::testing::HasSubstr;

TEST(TimmCall, NamesAllThatDiffersFromTheNamedModel) {
  TransformerConfig config;
  config.width = 48;
  config.heads = 3;
  config.ffn_width = 64;
  config.blocks = 5;
  config.stem.patch = 4;
  config.head.norm = "after_pooling";
  InputSpec input;
  input.channels = 3;
  input.height = 8;
  input.width = 16;
  input.classes = 7;
  EXPECT_EQ(timm_call(config, input),
            "timm.create_model(\"vit_base_patch16_224\", img_size=(8, 16), in_chans=3, num_classes=7, patch_size=4, embed_dim=48, depth=5, "
            "num_heads=3, mlp_ratio=1.3333333333333333, class_token=False, global_pool=\"avg\", fc_norm=True)");
  // timm takes int(width * ratio): every width must come out.
  for (int64_t width : {1, 3, 48, 49, 192, 1023}) {
    for (int64_t inner = 1; inner < 3 * width; inner += 1 + width / 50) {
      config.width = width;
      config.ffn_width = inner;
      const std::string call = timm_call(config, input);
      const double ratio = std::strtod(call.c_str() + call.find("mlp_ratio=") + 10, nullptr);
      EXPECT_EQ(static_cast<int64_t>(static_cast<double>(width) * ratio), inner) << width << ": " << call;
    }
  }
}

}  // namespace
}  // namespace adatape
