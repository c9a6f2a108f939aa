// `import --from timm` and `export --to timm` on the weights of a golden case, its three colours made one.
#include <nlohmann/json.hpp>

#include "adatape/core/safetensors.h"
#include "program.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;

class TimmCommandTest : public testing::ProgramTest {
 protected:
  TimmCommandTest() {
    weights_ = read_safetensors(std::string(ADATAPE_SOURCE_DIR) + "/tests/golden/vit_timm/weights.safetensors").tensors;
    at::Tensor& patches = weights_.at("patch_embed.proj.weight");
    patches = patches.narrow(1, 0, 1).contiguous();
    write_safetensors(path("vit.safetensors"), weights_);
    write("vit.toml", R"([task]
name = "image_classification"
height = 32
width = 32
classes = 6
class_names = "a,b,c,d,e,f"
[model]
name = "vit_tiny_patch16_224"
patch = 8
width = 32
heads = 4
ffn_width = 64
blocks = 2
)");
  }
  NamedTensors weights_;
};

TEST_F(TimmCommandTest, ThereAndBackIsTheSameToTheBit) {
  const Outcome imported = run("import --from timm vit.toml vit.safetensors --output model");
  ASSERT_EQ(imported.status, 0) << imported.errors;
  EXPECT_THAT(imported.output, HasSubstr("model: vit with "));
  const Outcome exported = run("export --to timm model --output back.safetensors");
  ASSERT_EQ(exported.status, 0) << exported.errors;
  EXPECT_THAT(
      exported.output,
      HasSubstr("back.safetensors: 32 tensors of timm.create_model(\"vit_base_patch16_224\", img_size=(32, 32), in_chans=1, num_classes=6, "
                "patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2, class_token=True, global_pool=\"token\", "
                "fc_norm=False)\n"));
  const NamedTensors back = read_safetensors(path("back.safetensors")).tensors;
  ASSERT_EQ(back.size(), weights_.size());
  for (const auto& [name, tensor] : weights_) {
    ASSERT_TRUE(back.contains(name)) << name;
    EXPECT_EQ(back.at(name).sizes(), tensor.sizes()) << name;
    EXPECT_TRUE(at::equal(back.at(name), tensor)) << name;
  }
  EXPECT_THAT(error_of("export --to timm model --output back.safetensors"), HasSubstr("expected a new file"));
}

TEST_F(TimmCommandTest, OtherImageSizesResamplePositions) {
  const Outcome imported = run("import --from timm vit.toml vit.safetensors --set task.height=48 --set task.width=24 --output model");
  ASSERT_EQ(imported.status, 0) << imported.errors;
  EXPECT_THAT(imported.output, HasSubstr("positions resampled"));
  const at::Tensor positions = read_safetensors(path("model/model.safetensors")).tensors.at("stem.positions");
  EXPECT_EQ(positions.size(0), 1 + 6 * 3);
  EXPECT_TRUE(at::equal(positions[0], weights_.at("pos_embed")[0][0]));
  // The same when a model folder is opened for another size.
  ASSERT_EQ(run("import --from timm vit.toml vit.safetensors --output square").status, 0);
  write_safetensors(path("in.safetensors"), {{"images", at::rand({2, 1, 48, 24}) * 2 - 1}});
  ASSERT_EQ(run("forward model --input in.safetensors --output expected.safetensors").status, 0);
  const Outcome opened = run("forward square --set task.height=48 --set task.width=24 --input in.safetensors --output got.safetensors");
  ASSERT_EQ(opened.status, 0) << opened.errors;
  EXPECT_TRUE(at::equal(read_safetensors(path("got.safetensors")).tensors.at("logits"),
                        read_safetensors(path("expected.safetensors")).tensors.at("logits")));
}

TEST_F(TimmCommandTest, WhatTimmWouldComputeOtherwiseIsRefused) {
  const auto error = [&](const std::string& arguments) {
    return error_of("import --from timm vit.toml vit.safetensors --output model " + arguments);
  };
  EXPECT_THAT(error("--set model.gelu=tanh"), HasSubstr("model.gelu: expected \"exact\""));
  EXPECT_THAT(error("--set model.norm=after_pooling"), HasSubstr("model.norm: expected \"before_pooling\""));
  EXPECT_THAT(error("--set model.pooling=gap"), HasSubstr("model.pooling: expected \"token\""));
  weights_["blocks.0.ls1.gamma"] = at::ones({32});
  write_safetensors(path("vit.safetensors"), weights_);
  EXPECT_THAT(error(""), HasSubstr("blocks.0.ls1.gamma is not a name of timm's VisionTransformer without LayerScale"));
  EXPECT_FALSE(exists("model"));
}

}  // namespace
}  // namespace adatape
