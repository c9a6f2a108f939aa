// Names of Scenic's AdaTape and Universal Transformer (Flax). Only the last parts of a path are matched where scopes differ between
// versions.
#include <regex>

#include "adatape/convert/weight_map.h"
#include "adatape/core/check.h"

namespace adatape {
namespace {

using Form = WeightPiece::Form;

struct ScenicNames {
  std::string bank = "bank_input";
  int64_t untied_blocks = 0;
};

ScenicNames names_of(const Model& model) {
  ScenicNames names;
  std::vector<std::string> banks;
  for (const NamedParameter& parameter : model.named_parameters()) {
    if (parameter.name.rfind("bank_", 0) == 0) {
      const std::string bank = parameter.name.substr(0, parameter.name.find('.'));
      if (banks.empty() || banks.back() != bank) banks.push_back(bank);
    }
    static const std::regex block(R"(block_(\d+)\.qkv\.weight)");
    std::smatch match;
    if (std::regex_match(parameter.name, match, block)) names.untied_blocks = std::stoll(match[1]) + 1;
  }
  ADATAPE_CHECK(banks.size() <= 1, "import", "expected a configuration with one bank (Scenic has no more), got ", banks.size());
  if (!banks.empty()) names.bank = banks.front();
  return names;
}

// A Dense, LayerNorm or bare tensor: kernel -> weight (transposed), scale -> weight, bias -> bias.
void add_leaf(std::vector<WeightPiece>& pieces, const std::string& source, const std::string& leaf, const std::string& ours,
              int64_t layer) {
  const bool kernel = leaf == "kernel";
  pieces.push_back({source, ours + (leaf == "bias" ? ".bias" : ".weight"), kernel ? Form::kTransposed : Form::kReshape, 0, -1, layer});
}

// The inside of an encoder block; path is what follows the block's own name, e.g. "MlpBlock_0/Dense_0/kernel". False: not known.
bool add_block_leaf(std::vector<WeightPiece>& pieces, const std::string& source, const std::string& path, const std::string& ours,
                    int64_t width, int64_t layer) {
  static const std::regex norm(R"(LayerNorm_([01])/(scale|bias))"), dense(R"((MlpBlock_0|tape_mlp)/Dense_([01])/(kernel|bias))"),
      attention(R"(MultiHeadDotProductAttention_0/(query|key|value|out)/(kernel|bias))");
  std::smatch match;
  if (std::regex_match(path, match, norm)) {
    add_leaf(pieces, source, match[2], ours + (match[1] == "0" ? ".attention_norm" : ".feed_forward_norm"), layer);
  } else if (std::regex_match(path, match, dense)) {
    add_leaf(pieces, source, match[3],
             ours + (match[1] == "tape_mlp" ? ".tape_feed_forward" : ".feed_forward") + (match[2] == "0" ? ".expand" : ".contract"), layer);
  } else if (std::regex_match(path, match, attention)) {
    if (match[1] == "out") {
      add_leaf(pieces, source, match[2], ours + ".output", layer);
    } else {
      const int64_t part = match[1] == "query" ? 0 : match[1] == "key" ? 1 : 2;
      pieces.push_back({source, ours + (match[2] == "bias" ? ".qkv.bias" : ".qkv.weight"),
                        match[2] == "kernel" ? Form::kTransposed : Form::kReshape, part * width, width, layer});
    }
  } else {
    return false;
  }
  return true;
}

}  // namespace

std::vector<WeightPiece> scenic_pieces(const NamedTensors& source, const Model& model) {
  const ScenicNames names = names_of(model);
  const bool image_bank = source.count("embedding_bank/kernel") > 0;
  int64_t width = 0;
  for (const NamedParameter& parameter : model.named_parameters()) {
    if (parameter.name == "head.norm.weight") width = parameter.tensor.size(0);
  }
  static const std::regex top(R"((embedding|embedding_bank|pre_bank|output_projection)/(kernel|bias))"),
      positions(R"((?:.*/)?posembed_input(_bank)?/pos_embedding)"), final_norm(R"((?:.*/)?encoder_norm/(scale|bias))"),
      block(R"((?:.*/)?encoderblock_(\d+)/(.*))"), shared_block(R"((?:.*/)?encoderblock/(.*))"),
      reader(R"((?:.*/)?AddTapeToken_(\d+)/(MlpBlock_0|TapeBank_0)/(.*))"), halting(R"((?:.*/)?step_halting_prob/(kernel|bias))");
  std::vector<WeightPiece> pieces;
  for (const auto& [name, tensor] : source) {
    std::smatch match;
    const auto piece = [&, &key = name](const std::string& ours, Form form = Form::kReshape) {
      pieces.push_back({key, ours, form, 0, -1, -1});
    };
    bool known = true;
    if (name == "cls") {
      piece("stem.class_token");
    } else if (std::regex_match(name, match, top)) {
      const std::string what = match[1], leaf = match[2];
      const bool kernel = leaf == "kernel";
      if (what == "output_projection") {
        add_leaf(pieces, name, leaf, "head.classifier", -1);
      } else if (what == "pre_bank" && image_bank) {
        add_leaf(pieces, name, leaf, names.bank + ".project", -1);
      } else {
        const std::string ours = what == "embedding" ? "stem" : names.bank;
        const bool convolution = tensor.dim() == 4;
        piece(ours + (!kernel       ? ".bias"
                      : convolution ? ".patch_weight"
                                    : ".symbol_weight"),
              !kernel       ? Form::kReshape
              : convolution ? Form::kConvolution
                            : Form::kTransposed);
      }
    } else if (std::regex_match(name, match, positions)) {
      piece(match[1].matched ? names.bank + ".positions" : "stem.positions");
    } else if (std::regex_match(name, match, final_norm)) {
      add_leaf(pieces, name, match[1], "head.norm", -1);
    } else if (std::regex_match(name, match, halting)) {
      add_leaf(pieces, name, match[1], "halting", -1);
    } else if (std::regex_match(name, match, block)) {
      known = add_block_leaf(pieces, name, match[2], "block_" + match[1].str(), width, -1);
    } else if (std::regex_match(name, match, shared_block)) {
      const std::string path = match[1];
      if (names.untied_blocks <= 1) {
        // A stack of one untied block has a first axis of 1, which the reshape swallows.
        known = add_block_leaf(pieces, name, path, "block_0", width, -1);
      } else {
        ADATAPE_CHECK(tensor.dim() > 0 && tensor.size(0) == names.untied_blocks, "import", "tensor ", name, ": expected ",
                      names.untied_blocks, " stacked blocks (model.max_steps), got ", tensor.sizes());
        for (int64_t i = 0; known && i < names.untied_blocks; ++i)
          known = add_block_leaf(pieces, name, path, "block_" + std::to_string(i), width, i);
      }
    } else if (std::regex_match(name, match, reader)) {
      const std::string ours = "reader_" + match[1].str(), path = match[3];
      static const std::regex dense(R"(Dense_([01])/(kernel|bias))"), norm(R"(bank_norm/(scale|bias))");
      std::smatch inner;
      if (path == "tape_tokens") {
        piece(names.bank + ".rows");
      } else if (std::regex_match(path, inner, norm)) {
        add_leaf(pieces, name, inner[1], ours + ".norm", -1);
      } else if (std::regex_match(path, inner, dense)) {
        add_leaf(pieces, name, inner[2], ours + (inner[1] == "0" ? ".mlp.expand" : ".mlp.contract"), -1);
      } else {
        known = false;
      }
    } else {
      known = false;
    }
    ADATAPE_CHECK(known, "import", "tensor ", name,
                  " is not a name of Scenic's AdaTape, Universal Transformer or ViT; take it out of the file");
  }
  return pieces;
}

}  // namespace adatape
