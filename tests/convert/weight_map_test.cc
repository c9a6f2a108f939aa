#include "adatape/convert/timm.h"

#include "adatape/models/registry.h"
#include "adatape/models/transformer.h"
#include "adatape/models/universal_transformer.h"
#include "golden_folder.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::AllOf;
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
  EXPECT_EQ(error(whole), "no error");
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
  EXPECT_EQ(error(whole), "no error");
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

// A text model of a golden case: its width, vocabulary and blocks, other keys by TOML.
std::shared_ptr<Model> text_model(const std::string& name, const std::string& keys, int64_t vocabulary) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = spec.classes = vocabulary;
  spec.length = 16;
  spec.answers_each = true;
  spec.decoder_length = name == "t5" ? 16 : 0;
  const ModelEntry& entry = find_model(name);
  const auto config = entry.make_config();
  ConfigDocument::from_text("name = \"" + name + "\"\nwidth = 32\nheads = 4\n" + keys).read(*config);
  config->resolve(spec);
  return entry.make_model(*config, spec);
}

class TransformersTest : public ::testing::Test {
 protected:
  static std::string error(const NamedTensors& source, const Model& model) {
    return error_of([&] { to_ours(transformers_pieces(source, model), source, model); });
  }
  static NamedTensors with(NamedTensors source, const std::string& name, const at::Tensor& tensor) {
    source[name] = tensor;
    return source;
  }
  const NamedTensors gpt_weights = weights_of("text_gpt"), t5_weights = weights_of("text_t5"), t5_1_1_weights = weights_of("text_t5_v1_1");
  const std::shared_ptr<Model> gpt = text_model("gpt", "ffn_width = 64\nblocks = 2\n", 29),
                               t5 = text_model("t5", "ffn_width = 32\nblocks = 2\nrelative_buckets = 8\n", 23);
};

TEST_F(TransformersTest, WhatStandsForTheEmbeddingEqualsIt) {
  const at::Tensor embedding = gpt_weights.at("transformer.wte.weight"), shared = t5_weights.at("shared.weight");
  EXPECT_EQ(error(with(gpt_weights, "lm_head.weight", embedding), *gpt), "no error");
  EXPECT_THAT(error(with(gpt_weights, "lm_head.weight", embedding + 0.1), *gpt),
              AllOf(HasSubstr("tensor lm_head.weight: expected the same numbers as transformer.wte.weight"),
                    HasSubstr("set model.tied_embeddings = false")));
  for (const char* copy : {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"}) {
    EXPECT_EQ(error(with(t5_weights, copy, shared), *t5), "no error");
    EXPECT_THAT(error(with(t5_weights, copy, shared * 2), *t5),
                AllOf(HasSubstr(copy), HasSubstr("expected the same numbers as shared.weight")));
    NamedTensors renamed = with(t5_weights, copy, shared);  // the one name that some writers keep
    renamed.erase("shared.weight");
    EXPECT_EQ(error(renamed, *t5), "no error");
    EXPECT_TRUE(at::equal(to_ours(transformers_pieces(renamed, *t5), renamed, *t5).at("embedding"), shared));
  }
  const std::string gated = "ffn_width = 24\nblocks = 1\nrelative_buckets = 8\nactivation = \"gated_gelu\"\n";
  EXPECT_EQ(error(t5_1_1_weights, *text_model("t5", gated + "tied_embeddings = false\n", 23)), "no error");
  EXPECT_THAT(error(t5_1_1_weights, *text_model("t5", gated, 23)),
              HasSubstr("tensor lm_head.weight: expected the same numbers as shared.weight"));
}

TEST_F(TransformersTest, ALeftoverOfPublishedFilesIsPassedOver) {
  const std::string bias = "layer.1.EncDecAttention.relative_attention_bias.weight";
  EXPECT_EQ(error(with(t5_weights, "decoder.block.0." + bias, at::ones({8, 4})), *t5), "no error");
  EXPECT_THAT(error(with(t5_weights, "decoder.block.1." + bias, at::ones({8, 4})), *t5),
              AllOf(HasSubstr("is not a name of"), HasSubstr("take it out of the file")));
}

TEST_F(TransformersTest, ShapesAreToldAsTheSourceHasThem) {
  const std::string expand = "transformer.h.1.mlp.c_fc.weight", query = "encoder.block.0.layer.0.SelfAttention.q.weight";
  EXPECT_THAT(
      error(with(gpt_weights, expand, gpt_weights.at(expand).t().contiguous()), *gpt),
      HasSubstr("tensor " + expand + ": expected [32, 64] ([in, out], for decoder.block_1.feed_forward.expand.weight), got [64, 32]"));
  EXPECT_THAT(error(with(t5_weights, query, at::zeros({16, 32})), *t5),
              HasSubstr("tensor " + query + ": expected [32, 32] (for rows 0 .. 31 of encoder.block_0.qkv.weight), got [16, 32]"));
  // Three parts that have as many rows together, and yet are not these.
  NamedTensors shifted = with(t5_weights, query, at::zeros({40, 32}));
  shifted["encoder.block.0.layer.0.SelfAttention.v.weight"] = at::zeros({24, 32});
  EXPECT_THAT(error(shifted, *t5), HasSubstr("expected [32, 32]"));
}

}  // namespace
}  // namespace adatape
