#include "adatape/models/presets.h"

#include "adatape/core/check.h"
#include "adatape/models/registry.h"

namespace adatape {
namespace {

struct VisionSize {
  const char* name;
  int64_t width, heads, blocks;
};
// arXiv 2010.11929, table 1; tiny and small: arXiv 2012.12877, table 1.
constexpr VisionSize kVisionSizes[] = {{"tiny", 192, 3, 12}, {"small", 384, 6, 12}, {"base", 768, 12, 12}, {"large", 1024, 16, 24}};
constexpr int64_t kPatches[] = {16, 32};

std::string assigned(const std::string& key, int64_t value) { return concat(key, "=", value); }

// One family of models on images: the sizes above, and what all of them set beside those.
struct VisionFamily {
  std::string name, summary, blocks_key;
  std::vector<std::string> keys;
  std::vector<std::string> (*keys_of_size)(const VisionSize& size) = nullptr;
  bool has_bank = false;  // whose patches are half as large as the model's
};

PresetFamily vision_presets(const VisionFamily& family) {
  PresetFamily presets{family.name + "_{tiny,small,base,large}_patch{16,32}_224", family.summary, {}};
  for (const VisionSize& size : kVisionSizes) {
    for (const int64_t patch : kPatches) {
      ModelPreset preset;
      preset.name = concat(family.name, "_", size.name, "_patch", patch, "_224");
      preset.model = family.name;
      preset.size = concat("width ", size.width, ", ", size.heads, " heads, ", size.blocks, " blocks, patches of ", patch, " pixels");
      preset.keys = {assigned("patch", patch), assigned("width", size.width), assigned("heads", size.heads),
                     assigned("ffn_width", 4 * size.width), assigned(family.blocks_key, size.blocks)};
      preset.keys.insert(preset.keys.end(), family.keys.begin(), family.keys.end());
      if (family.has_bank) preset.keys.push_back(concat("banks=[{patch=", patch / 2, "}]"));
      if (family.keys_of_size != nullptr) {
        for (const std::string& key : family.keys_of_size(size)) preset.keys.push_back(key);
      }
      presets.presets.push_back(std::move(preset));
    }
  }
  return presets;
}

// Published for the tiny and the small size alone; larger ones take the small one's.
std::vector<std::string> avit_gate(const VisionSize& size) {
  return {std::string("gate_scale=10"), std::string(size.width == 192 ? "gate_center=30" : "gate_center=75")};
}

const std::vector<std::string> kClassToken = {"class_token=true", "pooling=token"};

std::vector<std::string> with_class_token(std::vector<std::string> keys) {
  keys.insert(keys.begin(), kClassToken.begin(), kClassToken.end());
  return keys;
}

}  // namespace

const std::vector<PresetFamily>& preset_families() {
  // Scenic's UViT: an example halts as a whole, its output is a running mean, one rate of stochastic depth for all steps.
  static const std::vector<std::string> universal =
      with_class_token({"halting=per_example", "output=basic", "dropout=0.1", "stochastic_depth=0.1"});
  static const std::vector<PresetFamily> families = {
      vision_presets({"adatape",
                      "AdaTape-ViT as its ImageNet recipe has it (arXiv 2301.13195)",
                      "blocks",
                      {"pooling=gap", "classifier_bias=-6.9"},
                      nullptr,
                      /*has_bank=*/true}),
      vision_presets({"vit", "ViT and DeiT (arXiv 2010.11929, 2012.12877), as timm has them", "blocks", with_class_token({"gelu=exact"})}),
      vision_presets({"avit", "A-ViT on DeiT's sizes (arXiv 2112.07658)", "blocks", with_class_token({"gelu=exact"}), avit_gate}),
      vision_presets({"uvit", "Universal Transformer of a ViT's size, shared block", "max_steps", universal}),
      vision_presets({"u2t", "the same with a block of its own for each step", "max_steps", universal}),
  };
  return families;
}

const ModelPreset* find_preset(const std::string& name) {
  for (const PresetFamily& family : preset_families()) {
    for (const ModelPreset& preset : family.presets) {
      if (preset.name == name) return &preset;
    }
  }
  return nullptr;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const PresetFamily& family : preset_families()) {
    for (const ModelPreset& preset : family.presets) names.push_back(preset.name);
  }
  return names;
}

const ModelPreset& require_preset(const std::string& name) {
  if (const ModelPreset* preset = find_preset(name)) return *preset;
  const std::string near = nearest_word(name, preset_names());
  throw Error(concat("model: expected the name of a published size, got \"", name, "\"",
                     near.empty() ? "" : "; did you mean \"" + near + "\"?", " (see `adatape list models`)"));
}

std::unique_ptr<ModelConfig> preset_config(const ModelPreset& preset, const InputSpec& input) {
  struct Root {
    ModelConfig& model;
    void fields(FieldVisitor& visit) { visit.table("model", model, "what learns"); }
  };
  ConfigDocument document = ConfigDocument::from_text("[model]\nname = \"" + preset.name + "\"\n");
  expand_preset(document);
  auto config = find_model(preset.model).make_config();
  Root root{*config};
  document.read(root);
  config->resolve(input);
  config->validate(input);
  return config;
}

std::string expand_preset(ConfigDocument& document) {
  const std::string name = document.text_at("model.name", "");
  const ModelPreset* const preset = find_preset(name);
  if (preset == nullptr) return "";
  document.set("model.name=" + preset->model);
  for (const std::string& key : preset->keys) {
    if (!document.has("model." + key.substr(0, key.find('=')))) document.set("model." + key);
  }
  return name;
}

}  // namespace adatape
