// What all encoder models share: stem, trunk and head.
#pragma once

#include "adatape/models/model.h"
#include "adatape/nn/encoder_block.h"
#include "adatape/nn/head.h"
#include "adatape/nn/stem.h"

namespace adatape {

struct EncoderConfig : ModelConfig {
  StemConfig stem;
  HeadConfig head;
  int64_t width = 64;
  int64_t heads = 4;
  int64_t ffn_width = 128;
  std::string gelu = "tanh";
  double dropout = 0;
  double stochastic_depth = 0;
  std::string last_block = "all";  // all | pooled
  MoeConfig moe;

  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
  // Block `index` of `blocks`; where blocks are shared, 0 of 1.
  EncoderBlockShape block_shape(int64_t index, int64_t blocks, int64_t tape_ffn_width = 0) const;
};

// Rate of block index of count: from 0 at the first to `last` at the last.
double stochastic_depth_rate(double last, int64_t index, int64_t count);

// Block `index` of `blocks` of a trunk. With last_block = "pooled" the last one computes the class tokens alone (their layout is what is
// left).
PackedTokens run_block(const EncoderConfig& config, const EncoderBlock& block, int64_t index, int64_t blocks, const PackedTokens& tokens,
                       const ForwardContext& context);

// The head's answer: one an example, or one an input token with their layout.
void answer(const Head& head, const PackedTokens& tokens, const ForwardContext& context, ModelOutput& output,
            torch::Tensor* features = nullptr);

ForwardContext context_of(const Batch& batch, const ForwardOptions& options, ModelOutput& output);

}  // namespace adatape
