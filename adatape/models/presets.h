// Published sizes by name: `name = "vit_small_patch16_224"` in [model] stands for a registry name and some keys, which further keys
// override.
#pragma once

#include <string>
#include <vector>

#include "adatape/core/config.h"

namespace adatape {

struct ModelPreset {
  std::string name;               // as timm names its models, where it has one
  std::string model;              // registry name
  std::string size;               // published size, in a few words
  std::vector<std::string> keys;  // of [model], each as "width=384"
};

// Presets that are named alike.
struct PresetFamily {
  std::string names;    // the pattern of their names: "vit_{tiny,small}_patch{16,32}_224"
  std::string summary;  // what they are and where their numbers are from, one line
  std::vector<ModelPreset> presets;
};

const std::vector<PresetFamily>& preset_families();
// null where there is none of that name.
const ModelPreset* find_preset(const std::string& name);
// The name itself where it is a preset's; Error with the nearest known name where it is not.
const ModelPreset& require_preset(const std::string& name);
std::vector<std::string> preset_names();

// Where model.name is a preset's: puts its registry name there and its keys where the document has none of its own. Returns the name that
// was there, "" where it was no preset's.
std::string expand_preset(ConfigDocument& document);

}  // namespace adatape
