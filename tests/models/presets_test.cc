#include "adatape/models/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "adatape/core/check.h"
#include "adatape/models/registry.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

struct Root {
  ModelConfig& model;
  void fields(FieldVisitor& visit) { visit.table("model", model, ""); }
};

// The model of a document's [model], on images of `side` pixels with 1000 classes.
std::shared_ptr<Model> model_of(ConfigDocument document, int64_t side) {
  expand_preset(document);
  const ModelEntry& entry = find_model(document.text_at("model.name", ""));
  const auto config = entry.make_config();
  Root root{*config};
  document.read(root);
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = side;
  spec.classes = 1000;
  config->resolve(spec);
  config->validate(spec);
  return entry.make_model(*config, spec);
}

ConfigDocument named(const std::string& name, const std::string& more = "") {
  return ConfigDocument::from_text("[model]\nname = \"" + name + "\"\n" + more);
}

int64_t parameters_of(const Model& model) {
  int64_t count = 0;
  for (const NamedParameter& parameter : model.named_parameters()) count += parameter.tensor.numel();
  return count;
}

// What timm counts for these names.
TEST(PresetsTest, VitsHaveAsManyParametersAsTimms) {
  EXPECT_EQ(parameters_of(*model_of(named("vit_tiny_patch16_224"), 224)), 5717416);
  EXPECT_EQ(parameters_of(*model_of(named("vit_small_patch16_224"), 224)), 22050664);
  EXPECT_EQ(parameters_of(*model_of(named("vit_base_patch32_224"), 224)), 88224232);
}

TEST(PresetsTest, EveryNameIsDifferentAndItsKeysExist) {
  std::set<std::string> names;
  for (const PresetFamily& family : preset_families()) {
    for (const ModelPreset& preset : family.presets) {
      EXPECT_TRUE(names.insert(preset.name).second) << preset.name;
      ConfigDocument document = named(preset.name);
      EXPECT_EQ(expand_preset(document), preset.name);
      EXPECT_EQ(document.text_at("model.name", ""), preset.model);
      const auto config = find_model(preset.model).make_config();
      Root root{*config};
      EXPECT_NO_THROW(document.read(root)) << preset.name;
    }
  }
  EXPECT_EQ(names.size(), preset_names().size());
}

TEST(PresetsTest, KeysOfTheDocumentStay) {
  ConfigDocument document = named("avit_tiny_patch16_224", "blocks = 2\ngate_center = 20.0\n");
  document.set("model.width=96");
  expand_preset(document);
  const auto config = find_model("avit").make_config();
  Root root{*config};
  document.read(root);
  const std::string toml = to_toml(root);
  for (const char* line : {"\nblocks = 2\n", "\ngate_center = 20.0\n", "\nwidth = 96\n", "\nffn_width = 768\n", "\npatch = 16\n"}) {
    EXPECT_THAT(toml, HasSubstr(line));
  }
}

TEST(PresetsTest, OtherNamesAreLeftAlone) {
  ConfigDocument document = named("vit");
  EXPECT_EQ(expand_preset(document), "");
  EXPECT_EQ(document.text_at("model.name", ""), "vit");
  try {
    require_preset("vit_smal_patch16_224");
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean \"vit_small_patch16_224\"?"));
  }
}

TEST(PresetsTest, UniversalTransformersShareTheirBlockOrNot) {
  const int64_t shared = parameters_of(*model_of(named("uvit_tiny_patch32_224"), 64));
  const int64_t untied = parameters_of(*model_of(named("u2t_tiny_patch32_224"), 64));
  EXPECT_EQ(untied - shared, 11 * 444864);  // eleven blocks more
}

}  // namespace
}  // namespace adatape
