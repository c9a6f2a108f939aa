#include "adatape/convert/timm.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <regex>

#include "adatape/core/check.h"

namespace adatape {
namespace {

struct NamePair {
  const char *timm, *ours;
};
constexpr NamePair kInBlock[] = {{"norm1", "attention_norm"}, {"norm2", "feed_forward_norm"},     {"attn.qkv", "qkv"},
                                 {"attn.proj", "output"},     {"mlp.fc1", "feed_forward.expand"}, {"mlp.fc2", "feed_forward.contract"}};
constexpr NamePair kWhole[] = {{"cls_token", "stem.class_token"},
                               {"pos_embed", "stem.positions"},
                               {"patch_embed.proj.weight", "stem.patch_weight"},
                               {"patch_embed.proj.bias", "stem.bias"}};
const std::regex& parameter_of_block() {
  static const std::regex pattern(R"(block(?:s\.|_)(\d+)\.(.+)\.(weight|bias))");
  return pattern;
}

// Our name for one of timm's, "" for none.
std::string our_name(const std::string& timm) {
  static const std::regex top(R"((norm|fc_norm|head)\.(weight|bias))");
  std::smatch match;
  for (const NamePair& names : kWhole) {
    if (timm == names.timm) return names.ours;
  }
  if (std::regex_match(timm, match, top)) return (match[1] == "head" ? "head.classifier." : "head.norm.") + match[2].str();
  if (timm.starts_with("blocks.") && std::regex_match(timm, match, parameter_of_block())) {
    for (const NamePair& names : kInBlock) {
      if (match[2] == names.timm) return concat("block_", match[1].str(), ".", names.ours, ".", match[3].str());
    }
  }
  return "";
}

std::string timm_name(const std::string& ours, bool norm_after_pooling) {
  static const std::regex head(R"(head\.(norm|classifier)\.(weight|bias))");
  std::smatch match;
  for (const NamePair& names : kWhole) {
    if (ours == names.ours) return names.timm;
  }
  if (std::regex_match(ours, match, head)) {
    return (match[1] == "classifier" ? "head." : norm_after_pooling ? "fc_norm." : "norm.") + match[2].str();
  }
  if (ours.starts_with("block_") && std::regex_match(ours, match, parameter_of_block())) {
    for (const NamePair& names : kInBlock) {
      if (match[2] == names.ours) return concat("blocks.", match[1].str(), ".", names.timm, ".", match[3].str());
    }
  }
  return "";
}

// timm makes int(width * ratio) of it: the shortest number that gives ours.
std::string mlp_ratio(int64_t width, int64_t ffn_width) {
  const auto exact = static_cast<double>(width);
  char text[32];
  for (int digits = 1; digits <= 17; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(ffn_width) / exact);
    if (static_cast<int64_t>(exact * std::strtod(text, nullptr)) == ffn_width) return text;
  }
  std::snprintf(text, sizeof text, "%.17g", (static_cast<double>(ffn_width) + 0.5) / exact);  // rounding had fallen short
  return text;
}

}  // namespace

std::vector<WeightPiece> timm_pieces(const NamedTensors& source, const Model&) {
  std::vector<WeightPiece> pieces;
  for (const auto& [name, tensor] : source) {
    const std::string ours = our_name(name);
    ADATAPE_CHECK(!ours.empty(), "import", "tensor ", name, " is not a name of timm's VisionTransformer",
                  name.starts_with("dist_token") || name.starts_with("head_dist")
                      ? " (distilled DeiTs have a second token, which we have not)"
                  : name.find(".ls1.") != std::string::npos ? " without LayerScale"
                                                            : "");
    pieces.push_back({name, ours});
  }
  return pieces;
}

void check_timm_config(const EncoderConfig& config, const NamedTensors& source) {
  ADATAPE_CHECK(config.gelu == "exact", "import", "model.gelu: expected \"exact\", which timm's ViTs use, got \"", config.gelu, "\"");
  const std::string wanted = source.contains("fc_norm.weight") ? "after_pooling" : "before_pooling";
  ADATAPE_CHECK(config.head.norm == wanted, "import", "model.norm: expected \"", wanted, "\", since the weights have ",
                wanted == "after_pooling" ? "fc_norm" : "norm", ", got \"", config.head.norm, "\"");
  ADATAPE_CHECK(config.head.pooling == "token" || wanted == "after_pooling" || !source.contains("cls_token"), "import",
                "model.pooling: expected \"token\", since the weights have a class token and norm, got \"", config.head.pooling, "\"");
}

NamedTensors to_timm(const EncoderConfig& config, const Model& model) {
  ADATAPE_CHECK(config.gelu == "exact", "export", "model.gelu: expected \"exact\", which timm's ViTs use, got \"", config.gelu, "\"");
  NamedTensors result;
  for (const NamedParameter& parameter : model.named_parameters()) {
    const std::string name = timm_name(parameter.name, config.head.norm == "after_pooling");
    ADATAPE_CHECK(!name.empty(), "export", "timm's VisionTransformer has no place for ", parameter.name, " of a model \"", config.name,
                  "\"; expected a ViT on images");
    const at::Tensor tensor = parameter.tensor.detach().to(at::kCPU);
    result[name] = name == "cls_token" ? tensor.view({1, 1, -1}) : name == "pos_embed" ? tensor.unsqueeze(0) : tensor;
  }
  ADATAPE_CHECK(result.contains("pos_embed"), "export", "expected model.positions = true, as timm's VisionTransformer has them");
  return result;
}

std::string timm_call(const TransformerConfig& config, const InputSpec& input) {
  const auto truth = [](bool value) { return value ? "True" : "False"; };
  return concat("timm.create_model(\"vit_base_patch16_224\", img_size=(", input.height, ", ", input.width, "), in_chans=", input.channels,
                ", num_classes=", input.classes, ", patch_size=", config.stem.patch, ", embed_dim=", config.width,
                ", depth=", config.blocks, ", num_heads=", config.heads, ", mlp_ratio=", mlp_ratio(config.width, config.ffn_width),
                ", class_token=", truth(config.stem.class_token), ", global_pool=\"", config.head.pooling == "token" ? "token" : "avg",
                "\", fc_norm=", truth(config.head.norm == "after_pooling"), ")");
}

}  // namespace adatape
