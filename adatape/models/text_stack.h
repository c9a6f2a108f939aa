// A stack of text blocks with its final norm and, where positions are relative, its one table of buckets.
#pragma once

#include "adatape/models/model_output.h"
#include "adatape/models/text_config.h"
#include "adatape/nn/relative_buckets.h"

namespace adatape {

struct TextStack : Module {
  TextStack(const TextConfig& config, TextBlockShape shape, int64_t blocks);
  void initialize(at::Generator& generator);

  // x [T, D] -> the same shape after all blocks and the norm. memory: what cross-attention reads, or null. caches (or null), one a block: x
  // continues what they hold. first_index: number of the first block within the model; prefix of the names of work. Fills
  // output.block_tokens where the context counts work.
  torch::Tensor forward(PackedTokens x, const PackedTokens* memory, std::vector<TextBlockCache>* caches, const ForwardContext& context,
                        int64_t first_index, const std::string& prefix, ModelOutput* output) const;

  std::vector<std::shared_ptr<TextBlock>> blocks;
  std::shared_ptr<RelativeBuckets> relative;  // null: none
  std::shared_ptr<Norm> norm;

 private:
  double deviation_;
};

// int64 [T]: place of each token in its example, behind `before` tokens of it (empty: none).
torch::Tensor token_positions(const PackLayout& layout, const std::vector<int64_t>& before = {});

}  // namespace adatape
