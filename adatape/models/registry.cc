#include "adatape/models/registry.h"

#include "adatape/core/check.h"
#include "adatape/models/act_rnn.h"
#include "adatape/models/adatape.h"
#include "adatape/models/avit.h"
#include "adatape/models/pondernet_steps.h"
#include "adatape/models/presets.h"
#include "adatape/models/text_model.h"
#include "adatape/models/text_sizes.h"
#include "adatape/models/transformer.h"
#include "adatape/models/universal_transformer.h"

namespace adatape {
namespace {

template <class Config>
std::unique_ptr<ModelConfig> config_of() {
  return std::make_unique<Config>();
}

std::unique_ptr<ModelConfig> u2t_config() {
  auto config = std::make_unique<UniversalTransformerConfig>();
  config->shared_blocks = false;
  return config;
}

template <class Config, class Family>
std::shared_ptr<Model> model_of(const ModelConfig& config, const InputSpec& input) {
  auto model = std::make_shared<Family>(dynamic_cast<const Config&>(config), input);
  model->initialize(0, 0);
  return model;
}

std::shared_ptr<Model> pondernet_model(const ModelConfig& config, const InputSpec& input) {
  const std::shared_ptr<PonderNet> model = make_pondernet(dynamic_cast<const PonderNetConfig&>(config), input);
  model->initialize(0, 0);
  return model;
}

template <TextConfig (*defaults)()>
ModelEntry text_entry(const char* name, const char* summary) {
  ModelEntry text = {name, summary, [] { return std::unique_ptr<ModelConfig>(std::make_unique<TextConfig>(defaults())); },
                     model_of<TextConfig, TextModel>, describe_text_sizes(name)};
  text.causal = true;
  text.two_sequences = defaults().encoder_decoder();
  return text;
}

ModelEntry causal(ModelEntry model) {
  model.causal = true;
  return model;
}

template <class Config, class Family>
ModelEntry entry(const char* name, const char* summary, std::unique_ptr<ModelConfig> (*make)() = config_of<Config>) {
  return {name, summary, make, model_of<Config, Family>};
}

}  // namespace

const std::vector<ModelEntry>& model_registry() {
  static const std::vector<ModelEntry> registry = {
      entry<AdaTapeConfig, AdaTape>("adatape", "AdaTape: elastic input sequence by adaptive tape reading (arXiv 2301.13195)"),
      causal(entry<ActRnnConfig, ActRnn>("act_rnn",
                                         "recurrent network that ponders at each element until its halting unit stops (arXiv 1603.08983)")),
      {"pondernet", "one step repeated until a learnt probability of halting stops it (arXiv 2107.05407)", config_of<PonderNetConfig>,
       pondernet_model},
      entry<TransformerConfig, Transformer>("transformer", "Transformer encoder on sequences, fixed budget (arXiv 1706.03762)"),
      entry<TransformerConfig, Transformer>("vit", "Vision Transformer, fixed budget (arXiv 2010.11929)"),
      entry<AVitConfig, AVit>("avit", "A-ViT: tokens halt at their own depth and leave the sequence (arXiv 2112.07658)"),
      entry<UniversalTransformerConfig, UniversalTransformer>(
          "universal_transformer", "one block applied until its ACT halting unit stops, per token or example (arXiv 1807.03819)"),
      entry<UniversalTransformerConfig, UniversalTransformer>("uvit", "Universal Transformer on images, shared blocks"),
      entry<UniversalTransformerConfig, UniversalTransformer>("u2t", "Universal Transformer on images, a block of its own for each step",
                                                              u2t_config),
      text_entry<gpt_defaults>("gpt", "decoder with learned positions, the shape of GPT-2 and GPT-3 (arXiv 2005.14165)"),
      text_entry<palm_defaults>("palm", "decoder with parallel blocks, rotary positions, one key head and SwiGLU (arXiv 2204.02311)"),
      text_entry<t5_defaults>("t5", "encoder and decoder with relative positions and RMSNorm (arXiv 1910.10683)"),
  };
  return registry;
}

const ModelEntry& find_model(const std::string& name) {
  std::vector<std::string> names;
  for (const ModelEntry& model : model_registry()) {
    if (model.name == name) return model;
    names.push_back(model.name);
  }
  for (const TextSize& size : text_sizes()) {
    ADATAPE_CHECK(size.name != name, "config", "model.name: expected a known model, got \"", name,
                  "\", which is a size: set model.name = \"", size.family, "\" and model.size = \"", name, "\"");
  }
  for (const std::string& preset : preset_names()) names.push_back(preset);
  const std::string near = nearest_word(name, names);
  throw Error(concat("config: model.name: expected a known model, got \"", name, "\"",
                     near.empty() ? "" : "; did you mean \"" + near + "\"?", " (see `adatape list models`)"));
}

}  // namespace adatape
