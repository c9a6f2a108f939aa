// Fixed-budget baselines: a Transformer encoder on sequences and ViT on images. Source: arXiv 1706.03762, 2010.11929.
#pragma once

#include "adatape/models/encoder_config.h"

namespace adatape {

struct TransformerConfig : EncoderConfig {
  int64_t blocks = 2;
  void fields(FieldVisitor& visit) override;
};

class Transformer : public Model {
 public:
  Transformer(const TransformerConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  bool examples_are_independent() const override { return config_.moe.examples_are_independent(); }

 private:
  TransformerConfig config_;
  std::shared_ptr<Stem> stem_;
  std::vector<std::shared_ptr<EncoderBlock>> blocks_;
  std::shared_ptr<Head> head_;
};

}  // namespace adatape
