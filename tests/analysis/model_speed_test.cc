#include "adatape/analysis/model_speed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adatape {
namespace {

using ::testing::HasSubstr;

// A hand count of ViT-S/16 at 224 pixels: 196 patches of 768 numbers, 12 blocks on 197 tokens, 1000 classes. Multiply-adds count 2.
TEST(ModelSpeedTest, TheCostOfASmallVitIsThatOfAHandCount) {
  const double patches = 196, tokens = 197, width = 384;
  const double projections = 4 * width * width, feed_forward = 2 * width * (4 * width);
  const double by_hand =
      2 * (patches * 768 * width + 12 * (tokens * (projections + feed_forward) + 2 * tokens * tokens * width) + width * 1000);
  SpeedOptions options;
  options.batch = 1;
  options.repeats = 1;
  const ModelSpeed speed = measure_speed(require_preset("vit_small_patch16_224"), options);
  EXPECT_NEAR(speed.flops / by_hand, 1, 1e-9);
  EXPECT_NEAR(speed.flops / 2 / 4.6e9, 1, 0.01);  // the figure that DeiT-S was published with (arXiv 2012.12877)
  EXPECT_EQ(speed.parameters, 22050664);
  EXPECT_EQ(speed.tokens, 197);
  EXPECT_EQ(speed.tape_tokens, 0);
  EXPECT_EQ(speed.depth, 1);
  EXPECT_GT(speed.images_per_second, 0);
}

SpeedOptions small_images() {
  SpeedOptions options;
  options.batch = 6;
  options.image_size = 64;
  options.repeats = 2;
  return options;
}

TEST(ModelSpeedTest, HaltingModelsDoTheirPublishedShare) {
  const ModelSpeed full = measure_speed(require_preset("vit_tiny_patch16_224"), small_images());
  const ModelSpeed avit = measure_speed(require_preset("avit_tiny_patch16_224"), small_images());
  EXPECT_EQ(avit.parameters, full.parameters);
  EXPECT_NEAR(avit.flops / full.flops, 0.8 / 1.3, 0.05);
  EXPECT_NEAR(avit.depth, 0.8 / 1.3, 0.05);
  const ModelSpeed uvit = measure_speed(require_preset("uvit_tiny_patch16_224"), small_images());
  EXPECT_NEAR(uvit.depth, 6.5 / 12, 0.05);
  SpeedOptions shallow = small_images();
  shallow.depth = 0.25;
  EXPECT_NEAR(measure_speed(require_preset("uvit_tiny_patch16_224"), shallow).depth, 0.25, 0.05);
}

TEST(ModelSpeedTest, ResultsAreShownAsTableJsonAndPage) {
  int64_t passes = 0;
  const ModelSpeed adatape =
      measure_speed(require_preset("adatape_tiny_patch32_224"), small_images(), [&](int64_t done) { EXPECT_EQ(done, ++passes); });
  EXPECT_EQ(passes, 3);
  EXPECT_GE(adatape.tape_tokens, 2);
  EXPECT_NEAR(adatape.tokens, 4 + adatape.tape_tokens, 1e-9);
  EXPECT_EQ(adatape.depth, 1);
  const std::vector<ModelSpeed> speeds = {adatape};
  const auto json = speed_json(speeds, small_images(), "adatape bench models");
  EXPECT_EQ(json["image_size"], 64);
  EXPECT_EQ(json["runs"][0]["model"], "adatape_tiny_patch32_224");
  EXPECT_EQ(json["runs"][0]["flops"], adatape.flops);
  EXPECT_THAT(speed_text(speeds), HasSubstr("adatape_tiny_patch32_224"));
  const std::string page = speed_html(speeds, small_images(), "adatape bench <models>");
  EXPECT_THAT(page, ::testing::AllOf(HasSubstr("adatape/32"), HasSubstr("adatape bench &lt;models&gt;")));
}

}  // namespace
}  // namespace adatape
