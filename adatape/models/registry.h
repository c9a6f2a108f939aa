// The models by name: one line each in registry.cc.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "adatape/models/model.h"

namespace adatape {

struct ModelEntry {
  std::string name;
  std::string summary;  // one line for `adatape list models`
  std::unique_ptr<ModelConfig> (*make_config)();
  std::shared_ptr<Model> (*make_model)(const ModelConfig& config, const InputSpec& input);
  std::string sizes = "";      // the published ones that model.size names; "" where the family has none
  bool causal = false;         // an element's answer depends on no later element (of an encoder-decoder: of what the decoder reads)
  bool two_sequences = false;  // an encoder-decoder
};

const std::vector<ModelEntry>& model_registry();
// Error names the nearest known name.
const ModelEntry& find_model(const std::string& name);

}  // namespace adatape
