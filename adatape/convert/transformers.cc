// Names of Hugging Face transformers: GPT2LMHeadModel (linears are [in, out]) and T5ForConditionalGeneration ([out, in]).
#include <regex>

#include "adatape/convert/weight_map.h"
#include "adatape/core/check.h"

namespace adatape {
namespace {

using Form = WeightPiece::Form;

using Parameters = std::map<std::string, at::Tensor>;

// Sizes of our parameters say which rows a part has, so that a part of another size is found and named. 0 without that parameter: to_ours
// says so.
int64_t size_of(const Parameters& parameters, const std::string& name, int64_t axis) {
  const auto found = parameters.find(name);
  return found == parameters.end() ? 0 : found->second.size(axis);
}

// A tensor that has no place of its own stands for another and must equal it. Error where the two differ; advice says what to do then.
void check_copy(const std::string& name, const std::string& original, const NamedTensors& source, const std::string& advice = "") {
  const auto whole = source.find(original);
  ADATAPE_CHECK(whole != source.end() && at::equal(source.at(name).to(at::kFloat), whole->second.to(at::kFloat)), "import", "tensor ", name,
                ": expected the same numbers as ", original, ", which it stands for here, got others",
                advice.empty() ? "; such weights cannot be read" : advice);
}

// False: not a name of GPT-2.
bool add_gpt(std::vector<WeightPiece>& pieces, const std::string& name) {
  static const std::regex block(
      R"((?:transformer\.)?h\.(\d+)\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(weight|bias))"),
      top(R"((?:transformer\.)?(wte\.weight|wpe\.weight|ln_f\.weight|ln_f\.bias))"),
      buffer(R"((?:transformer\.)?h\.\d+\.attn\.(bias|masked_bias))");
  static const std::map<std::string, std::string> inside = {
      {"ln_1", "attention_norm"}, {"ln_2", "feed_forward_norm"},       {"attn.c_attn", "qkv"},
      {"attn.c_proj", "output"},  {"mlp.c_fc", "feed_forward.expand"}, {"mlp.c_proj", "feed_forward.contract"}};
  static const std::map<std::string, std::string> whole = {
      {"wte.weight", "embedding"}, {"wpe.weight", "positions"}, {"ln_f.weight", "decoder.norm.weight"}, {"ln_f.bias", "decoder.norm.bias"}};
  std::smatch match;
  if (std::regex_match(name, match, block)) {
    const std::string part = match[2];
    const bool matrix = part.rfind("ln_", 0) != 0 && match[3] == "weight";
    pieces.push_back({name, "decoder.block_" + match[1].str() + "." + inside.at(part) + "." + match[3].str(),
                      matrix ? Form::kTransposed : Form::kReshape});
  } else if (std::regex_match(name, match, top)) {
    pieces.push_back({name, whole.at(match[1])});
  } else {
    return std::regex_match(name, buffer);  // the causal mask, which is no parameter
  }
  return true;
}

// The name under which a file of T5 holds its one embedding: writers that keep a single name of tensors that share memory differ in which.
std::string t5_embedding(const NamedTensors& source) {
  for (const char* name : {"shared.weight", "encoder.embed_tokens.weight"}) {
    if (source.count(name) > 0) return name;
  }
  return "decoder.embed_tokens.weight";
}

// False: not a name of T5.
bool add_t5(std::vector<WeightPiece>& pieces, const std::string& name, const NamedTensors& source, const Parameters& parameters) {
  static const std::regex layer(R"((encoder|decoder)\.block\.(\d+)\.layer\.(\d)\.(.*))"),
      final_norm(R"((encoder|decoder)\.final_layer_norm\.weight)"), copy(R"((encoder|decoder)\.embed_tokens\.weight)");
  std::smatch match;
  if (name == t5_embedding(source)) {
    pieces.push_back({name, "embedding"});
    return true;
  }
  // Files of T5 1.0 hold it, and transformers skips it, too: attention to the encoder has no relative positions.
  if (name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight") return true;
  if (std::regex_match(name, match, final_norm)) {
    pieces.push_back({name, match[1].str() + ".norm.weight"});
    return true;
  }
  if (std::regex_match(name, copy)) {
    check_copy(name, t5_embedding(source), source);
    return true;
  }
  if (!std::regex_match(name, match, layer)) return false;
  const bool decoder = match[1] == "decoder";
  const std::string place = match[3], path = match[4], ours = match[1].str() + ".block_" + match[2].str() + ".";
  if (path == "layer_norm.weight") {
    pieces.push_back({name, ours +
                                (place == "0"              ? "attention_norm"
                                 : decoder && place == "1" ? "cross_norm"
                                                           : "feed_forward_norm") +
                                ".weight"});
  } else if (path == "SelfAttention.relative_attention_bias.weight") {
    pieces.push_back({name, match[1].str() + ".relative.weight"});
  } else if (path == "SelfAttention.o.weight") {
    pieces.push_back({name, ours + "output.weight"});
  } else if (path == "EncDecAttention.o.weight") {
    pieces.push_back({name, ours + "cross_output.weight"});
  } else if (path == "EncDecAttention.q.weight") {
    pieces.push_back({name, ours + "cross_query.weight"});
  } else if (path == "SelfAttention.q.weight" || path == "SelfAttention.k.weight" || path == "SelfAttention.v.weight") {
    const int64_t queries = size_of(parameters, ours + "output.weight", 1);
    const int64_t keys = (size_of(parameters, ours + "qkv.weight", 0) - queries) / 2;
    const int64_t first = path[14] == 'q' ? 0 : path[14] == 'k' ? queries : queries + keys;
    pieces.push_back({name, ours + "qkv.weight", Form::kReshape, first, path[14] == 'q' ? queries : keys});
  } else if (path == "EncDecAttention.k.weight" || path == "EncDecAttention.v.weight") {
    const int64_t rows = size_of(parameters, ours + "cross_key_value.weight", 0) / 2;
    pieces.push_back({name, ours + "cross_key_value.weight", Form::kReshape, path[16] == 'k' ? 0 : rows, rows});
  } else if (path == "DenseReluDense.wi.weight") {
    pieces.push_back({name, ours + "feed_forward.expand.weight"});
  } else if (path == "DenseReluDense.wi_0.weight" || path == "DenseReluDense.wi_1.weight") {  // the gate, what it gates
    const int64_t rows = size_of(parameters, ours + "feed_forward.expand.weight", 0) / 2;
    pieces.push_back({name, ours + "feed_forward.expand.weight", Form::kReshape, path[18] == '0' ? 0 : rows, rows});
  } else if (path == "DenseReluDense.wo.weight") {
    pieces.push_back({name, ours + "feed_forward.contract.weight"});
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::vector<WeightPiece> transformers_pieces(const NamedTensors& source, const Model& model) {
  std::vector<WeightPiece> pieces;
  Parameters parameters;
  for (const NamedParameter& parameter : model.named_parameters()) parameters[parameter.name] = parameter.tensor;
  const bool t5 = parameters.count("encoder.norm.weight") > 0;
  for (const auto& [name, tensor] : source) {
    if (name == "lm_head.weight") {
      if (parameters.count("classifier.weight") > 0) {
        pieces.push_back({name, "classifier.weight"});
      } else {  // tied: the embedding once more
        check_copy(name,
                   t5                           ? t5_embedding(source)
                   : source.count("wte.weight") ? "wte.weight"
                                                : "transformer.wte.weight",
                   source, "; set model.tied_embeddings = false");
      }
      continue;
    }
    ADATAPE_CHECK(t5 ? add_t5(pieces, name, source, parameters) : add_gpt(pieces, name), "import", "tensor ", name,
                  " is not a name of transformers' ", t5 ? "T5ForConditionalGeneration" : "GPT2LMHeadModel",
                  "; take it out of the file, or set model.name to what these weights are");
  }
  return pieces;
}

}  // namespace adatape
