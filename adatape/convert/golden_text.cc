// Golden cases of the text models. Examples come padded, with their lengths; each is run without padding, logits behind its end are 0.
#include <nlohmann/json.hpp>
#include <regex>

#include "adatape/convert/golden_case.h"
#include "adatape/convert/output_tensors.h"
#include "adatape/convert/weight_map.h"
#include "adatape/core/check.h"
#include "adatape/models/text_model.h"
#include "adatape/train/run_folder.h"

namespace adatape {
namespace {

using Json = nlohmann::json;

// Padded [B, L] and lengths [B] -> packed [total] and where each example begins.
struct Packed {
  at::Tensor values;
  std::vector<int64_t> offsets{0};
};

Packed packed(const at::Tensor& padded, const at::Tensor& lengths) {
  Packed result;
  std::vector<at::Tensor> parts;
  for (int64_t b = 0; b < padded.size(0); ++b) {
    parts.push_back(padded[b].narrow(0, 0, lengths[b].item<int64_t>()));
    result.offsets.push_back(result.offsets.back() + parts.back().size(0));
  }
  result.values = at::cat(parts);
  return result;
}

// The names of the PaLM case.
std::vector<WeightPiece> palm_pieces(const NamedTensors& source) {
  static const std::regex block(R"(blocks\.(\d+)\.(q|kv|out|gate|up|down|norm\.weight))");
  std::vector<WeightPiece> pieces;
  for (const auto& [name, tensor] : source) {
    std::smatch match;
    if (name == "embedding") {
      pieces.push_back({name, "embedding"});
    } else if (name == "norm_out.weight") {
      pieces.push_back({name, "decoder.norm.weight"});
    } else {
      ADATAPE_CHECK(std::regex_match(name, match, block), "golden case", "tensor ", name, " is not a name of the PaLM case");
      const std::string ours = "decoder.block_" + match[1].str() + ".", part = match[2];
      const int64_t rows = tensor.size(0);
      const auto piece = [&, &key = name](const char* to, int64_t first = 0, int64_t count = -1) {
        pieces.push_back({key, ours + to, WeightPiece::Form::kReshape, first, count});
      };
      if (part == "q") piece("qkv.weight", 0, rows);
      if (part == "kv") piece("qkv.weight", source.at("blocks." + match[1].str() + ".q").size(0), rows);
      if (part == "out") piece("output.weight");
      if (part == "gate") piece("feed_forward.expand.weight", 0, rows);
      if (part == "up") piece("feed_forward.expand.weight", rows, rows);
      if (part == "down") piece("feed_forward.contract.weight");
      if (part == "norm.weight") piece("attention_norm.weight");
    }
  }
  return pieces;
}

TextConfig config_of(const Json& config, const std::string& model) {
  TextConfig ours = model == "t5" ? t5_defaults() : model == "palm" ? palm_defaults() : gpt_defaults();
  ours.width = config.at("D");
  ours.heads = config.at("heads");
  ours.ffn_width = config.at("ffn_width");
  ours.norm_epsilon = config.at("norm_eps");
  if (config.contains("head_width")) ours.head_width = config["head_width"].get<int64_t>();
  if (config.contains("key_value_heads")) ours.key_value_heads = config["key_value_heads"].get<int64_t>();
  if (config.contains("positions")) ours.context = config["positions"].get<int64_t>();
  ours.blocks = model == "t5" ? config.at("encoder_blocks") : config.at("blocks");
  if (model == "t5") {
    ours.decoder_blocks = config.at("decoder_blocks").get<int64_t>();
    ours.activation = config.at("activation") == "gated-gelu" ? "gated_gelu" : "relu";
    ours.relative_buckets = config.at("relative_buckets");
    ours.relative_max_distance = config.at("relative_max_distance");
  }
  ours.tied_embeddings = config.at("tied_embeddings");
  ours.scaled_logits = config.value("logits_scale", 1.0) != 1.0;
  return ours;
}

}  // namespace

NamedTensors run_text_case(const Json& config, const std::string& name, const NamedTensors& weights, const NamedTensors& inputs) {
  const bool two = name == "t5";
  const at::Tensor lengths = tensor_of(inputs, two ? "encoder_lengths" : "lengths");
  const Packed first = packed(tensor_of(inputs, two ? "encoder_ids" : "ids").to(at::kLong), lengths);
  Batch batch;
  batch.symbols = first.values;
  batch.offsets = first.offsets;
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = spec.classes = config.at("vocab");
  spec.answers_each = true;
  spec.length = lengths.max().item<int64_t>();
  if (two) {
    const Packed second = packed(tensor_of(inputs, "decoder_ids").to(at::kLong), tensor_of(inputs, "decoder_lengths"));
    batch.decoder_symbols = second.values;
    batch.decoder_offsets = second.offsets;
    spec.decoder_length = tensor_of(inputs, "decoder_ids").size(1);
  }
  TextConfig ours = config_of(config, name);
  ours.resolve(spec);
  ours.validate(spec);
  TextModel model(ours, spec);
  const std::vector<WeightPiece> pieces = name == "palm" ? palm_pieces(weights) : transformers_pieces(weights, model);
  load_parameters(model, to_ours(pieces, weights, model), "weights.safetensors");
  model.to(lengths.device());

  const ModelOutput output = model.forward(batch, {});
  const std::vector<int64_t>& offsets = batch.answer_offsets();
  const int64_t longest = tensor_of(inputs, two ? "decoder_ids" : "ids").size(1);
  std::vector<at::Tensor> rows;
  for (size_t b = 0; b + 1 < offsets.size(); ++b) {
    const at::Tensor own = output.logits.narrow(0, offsets[b], offsets[b + 1] - offsets[b]);
    rows.push_back(at::cat({own, own.new_zeros({longest - own.size(0), own.size(1)})}));
  }
  const at::Tensor logits = at::stack(rows);
  NamedTensors result = {{"logits", logits.detach()}};
  if (inputs.count("cotangent") > 0) {
    (logits * tensor_of(inputs, "cotangent")).sum().backward();
    for (auto& [key, gradient] : to_source(pieces, parameter_gradients(model), weights)) result["grad/" + key] = gradient;
  }
  return result;
}

}  // namespace adatape
