#include "adatape/models/transformer.h"

namespace adatape {

void TransformerConfig::fields(FieldVisitor& visit) {
  EncoderConfig::fields(visit);
  visit.integer("blocks", blocks, {1, 10000}, "number of encoder blocks");
}

Transformer::Transformer(const TransformerConfig& config, const InputSpec& input) : config_(config) {
  stem_ = register_module("stem", std::make_shared<Stem>(config.stem, input, config.width));
  for (int64_t i = 0; i < config.blocks; ++i) {
    blocks_.push_back(register_module("block_" + std::to_string(i), std::make_shared<EncoderBlock>(config.block_shape(i, config.blocks))));
  }
  head_ = register_module("head", std::make_shared<Head>(config.head, config.width, input.classes));
}

void Transformer::initialize(uint64_t seed, uint64_t draw) {
  at::Generator generator = parameter_generator(seed, draw);
  stem_->initialize(generator);
  for (const auto& block : blocks_) block->initialize(generator);
  head_->initialize(generator);
}

ModelOutput Transformer::forward(const Batch& batch, const ForwardOptions& options) {
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  PackedTokens tokens = stem_->forward(batch, context);
  for (int64_t i = 0; i < config_.blocks; ++i) {
    if (options.record) output.block_tokens.push_back(tokens.layout->lengths());  // a pooled block reads them all, too
    tokens = run_block(config_, *blocks_[i], i, config_.blocks, tokens, context);
  }
  torch::Tensor features;
  answer(*head_, tokens, context, output, options.record ? &features : nullptr);
  if (options.record && tokens.layout->uniform() && !output.logits_layout) {
    output.intermediates["features"] = features.view({batch.size(), -1, config_.width});
  }
  return output;
}

}  // namespace adatape
