// GPT, PaLM (a decoder) and T5 (encoder and decoder): settings of one block. Source: arXiv 2005.14165, 2204.02311, 1910.10683.
#pragma once

#include "adatape/models/text_stack.h"

namespace adatape {

// What a decoder keeps between calls: keys and values of all blocks. The batch's examples stay the same ones.
struct DecodingState {
  std::vector<TextBlockCache> blocks;
  PackedTokens memory;  // encoder-decoder: the encoder's output
};

// Logits are packed [total, classes], with logits_layout; of an encoder-decoder at the decoder's symbols.
class TextModel : public Model {
 public:
  TextModel(const TextConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;

  // An encoder-decoder reads the batch's symbols; a decoder alone has read nothing yet.
  DecodingState begin(const Batch& batch) const;
  // symbols int64 [total] by layout, which continue those already decoded -> their logits [total, classes]. Equal to forward's.
  torch::Tensor decode(const torch::Tensor& symbols, const std::shared_ptr<const PackLayout>& layout, DecodingState& state) const;
  bool encoder_decoder() const { return config_.encoder_decoder(); }
  // The longest sequence that learned positions allow; none: no bound.
  std::optional<int64_t> longest() const;

 private:
  PackedTokens embed(const torch::Tensor& symbols, const std::shared_ptr<const PackLayout>& layout, const torch::Tensor& table,
                     const std::vector<int64_t>& before) const;
  torch::Tensor logits_of(const torch::Tensor& states, const PackLayout& layout, const ForwardContext& context) const;
  TextConfig config_;
  InputSpec input_;
  torch::Tensor embedding_;                       // [vocabulary, D]
  torch::Tensor positions_, decoder_positions_;   // [context, D]; undefined without
  std::shared_ptr<TextStack> encoder_, decoder_;  // encoder_ null: a decoder alone
  std::shared_ptr<Linear> classifier_;            // null: tied
};

}  // namespace adatape
