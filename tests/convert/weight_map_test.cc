#include "adatape/convert/timm.h"

#include "adatape/models/registry.h"
#include "adatape/models/transformer.h"
#include "adatape/models/universal_transformer.h"
#include "golden_folder.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using testing::error_of;
using testing::golden;
using ::testing::HasSubstr;

InputSpec images(int64_t side, int64_t classes) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = side;
  spec.classes = classes;
  return spec;
}

NamedTensors weights_of(const std::string& name) { return read_safetensors(golden(name) + "/weights.safetensors").tensors; }

// U2T of the golden case u2t_per_example: four untied blocks, stacked in the source.
std::shared_ptr<Model> u2t_model(int64_t steps = 4) {
  UniversalTransformerConfig config;
  config.width = 16;
  config.heads = 4;
  config.ffn_width = 32;
  config.max_steps = steps;
  config.shared_blocks = false;
  config.stem.patch = 8;
  config.stem.class_token = true;
  config.head.pooling = "token";
  const InputSpec spec = images(32, 5);
  config.resolve(spec);
  return find_model("u2t").make_model(config, spec);
}

std::shared_ptr<Model> vit_model() {
  TransformerConfig config;
  config.width = 32;
  config.heads = 4;
  config.ffn_width = 64;
  config.blocks = 2;
  config.gelu = "exact";
  config.stem.patch = 8;
  config.stem.class_token = true;
  config.head.pooling = "token";
  const InputSpec spec = images(32, 6);
  config.resolve(spec);
  return find_model("vit").make_model(config, spec);
}

TEST(WeightMapTest, ScenicThereAndBackIsTheSame) {
  const NamedTensors source = weights_of("u2t_per_example");
  const auto model = u2t_model();
  const auto pieces = scenic_pieces(source, *model);
  const NamedTensors ours = to_ours(pieces, source, *model);
  EXPECT_EQ(ours.size(), model->named_parameters().size());
  const NamedTensors back = to_source(pieces, ours, source);
  ASSERT_EQ(back.size(), source.size());
  for (const auto& [name, tensor] : source) EXPECT_TRUE(at::equal(back.at(name), tensor)) << name;
}

TEST(WeightMapTest, TimmThereAndBackIsTheSame) {
  const NamedTensors source = weights_of("vit_timm");
  const auto model = vit_model();
  const auto pieces = timm_pieces(source, *model);
  const NamedTensors ours = to_ours(pieces, source, *model);
  EXPECT_TRUE(at::equal(ours.at("block_1.qkv.weight"), source.at("blocks.1.attn.qkv.weight")));
  const NamedTensors back = to_source(pieces, ours, source);
  for (const auto& [name, tensor] : source) EXPECT_TRUE(at::equal(back.at(name), tensor)) << name;
}

// Flax kernels are [in, out], convolutions [h, w, in, out], attention [D, heads, d]: one element of each, followed by hand.
TEST(WeightMapTest, KernelsAreTransposed) {
  const NamedTensors source = weights_of("u2t_per_example");
  const auto model = u2t_model();
  const NamedTensors ours = to_ours(scenic_pieces(source, *model), source, *model);
  EXPECT_EQ(ours.at("head.classifier.weight")[3][7].item<float>(), source.at("output_projection/kernel")[7][3].item<float>());
  EXPECT_EQ(ours.at("stem.patch_weight")[5][2][1][6].item<float>(), source.at("embedding/kernel")[1][6][2][5].item<float>());
  for (const auto& [name, tensor] : source) {
    if (name.find("MultiHeadDotProductAttention_0/key/kernel") == std::string::npos) continue;
    // Block 2's key of head 3, feature 1, from input 9: row width + 3 * 4 + 1 of qkv.
    EXPECT_EQ(ours.at("block_2.qkv.weight")[16 + 13][9].item<float>(), tensor[2][9][3][1].item<float>());
  }
}

TEST(WeightMapTest, MissingSurplusAndWrongShapesAreNamed) {
  const NamedTensors whole = weights_of("vit_timm");
  const auto model = vit_model();
  const auto error = [&](const NamedTensors& source) { return error_of([&] { to_ours(timm_pieces(source, *model), source, *model); }); };
  EXPECT_EQ(error(whole), "");
  NamedTensors source = whole;
  source.erase("blocks.0.mlp.fc1.bias");
  EXPECT_THAT(error(source), HasSubstr("no tensor in the weights gives block_0.feed_forward.expand.bias [64]"));
  source = whole;
  source["blocks.2.norm1.weight"] = at::zeros({32});
  EXPECT_THAT(error(source),
              AllOf(HasSubstr("blocks.2.norm1.weight"), HasSubstr("this configuration has no block_2.attention_norm.weight")));
  source = whole;
  source["surprise"] = at::zeros({1});
  EXPECT_THAT(error(source), HasSubstr("surprise is not a name of timm's VisionTransformer"));
  source = whole;
  source["head.weight"] = at::zeros({5, 32});
  EXPECT_THAT(error(source), AllOf(HasSubstr("head.weight"), HasSubstr("[6, 32]"), HasSubstr("[5, 32]")));
  // As many numbers in another shape are another tensor.
  source = whole;
  source["head.weight"] = at::zeros({32, 6});
  EXPECT_THAT(error(source), AllOf(HasSubstr("head.weight"), HasSubstr("[6, 32]"), HasSubstr("[32, 6]")));
}

TEST(WeightMapTest, ScenicShapesThatDoNotFitAreNamed) {
  const NamedTensors whole = weights_of("u2t_per_example");
  const auto model = u2t_model();
  const auto error = [&](const NamedTensors& source) { return error_of([&] { to_ours(scenic_pieces(source, *model), source, *model); }); };
  EXPECT_EQ(error(whole), "");
  NamedTensors source = whole;
  source["output_projection/kernel"] = at::zeros({5, 16});
  EXPECT_THAT(error(source), AllOf(HasSubstr("output_projection/kernel"), HasSubstr("[5, 16]")));
  source = whole;
  source["embedding/kernel"] = at::zeros({3, 8, 8, 16});
  EXPECT_THAT(error(source), HasSubstr("embedding/kernel"));
  source = whole;
  source["surprise/kernel"] = at::zeros({1});
  EXPECT_THAT(error(source), HasSubstr("surprise/kernel is not a name of Scenic's"));
  const auto longer = u2t_model(5);
  EXPECT_THAT(error_of([&] { to_ours(scenic_pieces(whole, *longer), whole, *longer); }),
              HasSubstr("expected 5 stacked blocks (model.max_steps), got [4"));
  // Fewer steps than the stack has blocks would leave weights out.
  const auto shorter = u2t_model(3);
  EXPECT_THAT(error_of([&] { to_ours(scenic_pieces(whole, *shorter), whole, *shorter); }), HasSubstr("expected 3 stacked blocks"));
}

}  // namespace
}  // namespace adatape
