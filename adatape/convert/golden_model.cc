// Golden cases of whole models: the case's plain words become one of our configurations.
#include <nlohmann/json.hpp>

#include "adatape/convert/golden_case.h"
#include "adatape/convert/output_tensors.h"
#include "adatape/convert/timm.h"
#include "adatape/core/check.h"
#include "adatape/models/adatape.h"
#include "adatape/models/avit.h"
#include "adatape/models/registry.h"
#include "adatape/models/transformer.h"
#include "adatape/models/universal_transformer.h"
#include "adatape/train/run_folder.h"

namespace adatape {
namespace {

using Json = nlohmann::json;

bool has_ending(const NamedTensors& tensors, const std::string& ending) {
  for (const auto& [name, tensor] : tensors) {
    if (name.size() >= ending.size() && name.compare(name.size() - ending.size(), ending.size(), ending) == 0) return true;
  }
  return false;
}

void read_encoder(const Json& config, const NamedTensors& weights, EncoderConfig& encoder) {
  encoder.width = config.at("D");
  encoder.heads = config.at("heads");
  encoder.ffn_width = config.at("ffn_width");
  encoder.gelu = config.value("gelu", "tanh").rfind("exact", 0) == 0 ? "exact" : "tanh";
  encoder.head.pooling = config.value("pooling", "gap");
  encoder.head.norm = config.value("norm", "before pooling") == "after pooling" ? "after_pooling" : "before_pooling";
  encoder.stem.patch = config.value("patch", int64_t{16});
  encoder.stem.class_token = weights.count("cls") > 0 || weights.count("cls_token") > 0;
  encoder.stem.positions = has_ending(weights, "posembed_input/pos_embedding") || weights.count("pos_embed") > 0;
  const double epsilon = config.value("layer_norm_eps", 1e-6);
  ADATAPE_CHECK(epsilon == 1e-6, "golden case", "expected layer_norm_eps 1e-6, got ", epsilon);
}

std::unique_ptr<ModelConfig> adatape_config(const Json& config, const NamedTensors& weights) {
  auto ours = std::make_unique<AdaTapeConfig>();
  read_encoder(config, weights, *ours);
  ours->blocks = config.at("blocks");
  ours->ponder_weight = config.value("lambda", 0.01);
  ours->tape_ffn_width = config.value("tape_ffn_width", int64_t{0});
  TapeBankConfig& bank = ours->banks.front();
  bank.kind = config.value("bank", "input");
  bank.rows = config.value("bank_rows", int64_t{10000});
  bank.patch = config.value("bank_patch", int64_t{8});
  bank.resolution = config.value("bank_resolution", int64_t{0});
  bank.positions = has_ending(weights, "posembed_input_bank/pos_embedding") ? "on" : "off";
  ours->readers.clear();
  for (const Json& block : config.at("tape_before_blocks")) {
    TapeReaderConfig reader;
    reader.before_block = block;
    reader.query = config.value("query", "auto");
    reader.max_tape_tokens = config.at("T").get<int64_t>();
    reader.threshold = config.at("tau");
    if (config.contains("K")) reader.rows_per_step = config["K"].get<int64_t>();
    reader.key_split = config.at("key_split").get<int64_t>();
    reader.query_update = config.value("query_update", "average");
    reader.ponder = config.value("ponder", "entropy");
    reader.mlp_width = config.at("tape_mlp_width").get<int64_t>();
    ours->readers.push_back(reader);
  }
  return ours;
}

std::unique_ptr<ModelConfig> universal_config(const Json& config, const NamedTensors& weights) {
  auto ours = std::make_unique<UniversalTransformerConfig>();
  read_encoder(config, weights, *ours);
  ours->max_steps = config.at("max_steps");
  ours->epsilon = config.value("epsilon", 0.01);
  ours->halting = config.value("halting", "per_token");
  ours->output = config.value("output", "accumulated");
  ours->shared_blocks = config.value("shared_blocks", true);
  ours->ponder_weight = config.value("lambda", 0.01);
  return ours;
}

std::unique_ptr<ModelConfig> transformer_config(const Json& config, const NamedTensors& weights) {
  auto ours = std::make_unique<TransformerConfig>();
  read_encoder(config, weights, *ours);
  ours->blocks = config.at("blocks");
  return ours;
}

// The case's gradients are those without the distribution loss, whose own are a group of theirs.
std::unique_ptr<ModelConfig> avit_config(const Json& config, const NamedTensors& weights) {
  auto ours = std::make_unique<AVitConfig>();
  read_encoder(config, weights, *ours);
  ours->blocks = config.at("blocks");
  ours->gate_scale = config.at("gate_scale");
  ours->gate_center = config.at("gate_center");
  ours->epsilon = config.value("epsilon", 0.01);
  ours->ponder_weight = config.at("ponder_weight");
  ours->distribution_weight = 0;
  ours->prior_mean = config.at("prior_mean");
  ours->prior_deviation = config.at("prior_sd");
  return ours;
}

struct Inputs {
  Batch batch;
  InputSpec spec;
};

// Images are NHWC for Flax sources and NCHW for PyTorch ones; symbols come one-hot in the order (-1, 0, 1), or as ids.
Inputs read_inputs(const NamedTensors& inputs, bool channels_last, int64_t classes) {
  Inputs result;
  result.spec.classes = classes;
  if (const auto images = inputs.find("images"); images != inputs.end()) {
    const at::Tensor nchw = channels_last ? images->second.permute({0, 3, 1, 2}).contiguous() : images->second;
    result.spec.kind = InputSpec::Kind::kImages;
    result.spec.channels = nchw.size(1);
    result.spec.height = nchw.size(2);
    result.spec.width = nchw.size(3);
    result.batch.images = nchw;
    return result;
  }
  at::Tensor symbols;
  if (const auto one_hot = inputs.find("symbols_one_hot"); one_hot != inputs.end()) {
    symbols = one_hot->second.argmax(-1);
    result.spec.vocabulary = one_hot->second.size(-1);
  } else {
    const auto ids = inputs.count("symbols") ? inputs.find("symbols") : inputs.find("token_ids");
    ADATAPE_CHECK(ids != inputs.end(), "golden case", "expected images, symbols_one_hot, symbols or token_ids among the inputs");
    symbols = ids->second.to(at::kLong);
    result.spec.vocabulary = symbols.max().item<int64_t>() + 1;
  }
  result.spec.kind = InputSpec::Kind::kSymbols;
  result.spec.length = symbols.size(1);
  result.batch.symbols = symbols.reshape({-1});
  for (int64_t b = 0; b <= symbols.size(0); ++b) result.batch.offsets.push_back(b * symbols.size(1));
  return result;
}

}  // namespace

NamedTensors run_model_case(const Json& config, const std::string& name, const NamedTensors& weights, const NamedTensors& inputs) {
  // Other spellings that cases use for our registry names.
  const bool scenic = (name != "vit" && name != "a_vit") || weights.count("head.weight") == 0;
  std::unique_ptr<ModelConfig> ours;
  std::string registry_name = name;
  if (name == "adatape" || name == "adatape_parity") {
    registry_name = "adatape";
    ours = adatape_config(config, weights);
  } else if (name == "universal_transformer" || name == "uvit" || name == "u2t") {
    registry_name = "universal_transformer";
    ours = universal_config(config, weights);
  } else if (name == "vit" || name == "transformer") {
    ours = transformer_config(config, weights);
  } else if (name == "a_vit") {
    registry_name = "avit";
    ours = avit_config(config, weights);
  } else {
    throw Error(concat("golden case: this version has no model for cases of \"", name,
                       "\"; known: adatape, adatape_parity, universal_transformer, vit, a_vit, pondernet, pondernet_vit, act_rnn, t5, gpt, "
                       "palm, mixture_of_experts, tape_reader"));
  }
  Inputs given = read_inputs(inputs, scenic, config.at("classes"));
  auto& encoder = dynamic_cast<EncoderConfig&>(*ours);
  if (given.spec.kind == InputSpec::Kind::kSymbols) {
    // One row of the kernel for each symbol: a token a symbol; one for each place and symbol: the flattened sequence.
    const auto kernel = weights.find("embedding/kernel");
    encoder.stem.input = kernel != weights.end() && kernel->second.size(0) == given.spec.length * given.spec.vocabulary ? "flat" : "tokens";
  }
  ours->name = registry_name;
  ours->resolve(given.spec);
  ours->validate(given.spec);
  const std::shared_ptr<Model> model = find_model(registry_name).make_model(*ours, given.spec);
  const std::vector<WeightPiece> pieces = scenic ? scenic_pieces(weights, *model) : timm_pieces(weights, *model);
  load_parameters(*model, to_ours(pieces, weights, *model), "weights.safetensors");
  model->to(inputs.begin()->second.device());

  ForwardOptions options;
  options.record = true;
  const ModelOutput output = model->forward(given.batch, options);
  NamedTensors result = output_tensors(output);
  if (const auto cotangent = inputs.find("cotangent"); cotangent != inputs.end()) {
    for (const AuxiliaryLoss& loss : output.auxiliary_losses) {
      if (!loss.of_batch) continue;
      loss.values.mean().backward({}, /*retain_graph=*/true);
      for (auto& [key, gradient] : to_source(pieces, parameter_gradients(*model), weights))
        result["grad_" + loss.name + "_loss/" + key] = gradient;
      for (const NamedParameter& parameter : model->named_parameters()) parameter.tensor.mutable_grad().reset();
    }
    cotangent_objective(output, cotangent->second).backward();
    for (auto& [key, gradient] : to_source(pieces, parameter_gradients(*model), weights)) result["grad/" + key] = gradient;
  }
  return result;
}

}  // namespace adatape
