// Universal Transformer with adaptive computation time, for each token or each example; on images UViT (shared blocks) and U2T (untied).
// Source: arXiv 1807.03819, 1603.08983. A halted token leaves query, feed-forward and output work and stays a key. With readers, tape
// tokens (arXiv 2301.13195) stand in front of the first step and halt like all others: an elastic sequence of elastic depth.
#pragma once

#include "adatape/models/tape_front.h"

namespace adatape {

struct UniversalTransformerConfig : EncoderConfig, TapeFrontConfig {
  int64_t max_steps = 6;
  std::string halting = "per_token";   // per_token | per_example
  std::string output = "accumulated";  // accumulated | basic
  bool shared_blocks = true;
  double epsilon = 0.01;
  double halting_bias = -1;  // start of the halting unit's bias; -3 = deep start
  bool step_embedding = false;
  double ponder_weight = 0.01;  // alpha
  double tape_ponder_weight = 0.01;

  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
};

class UniversalTransformer : public Model {
 public:
  UniversalTransformer(const UniversalTransformerConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  std::vector<TapeReader*> tape_readers() override { return tapes_->readers(); }
  bool examples_are_independent() const override {
    return config_.moe.examples_are_independent() && config_.TapeFrontConfig::examples_are_independent();
  }

 private:
  UniversalTransformerConfig config_;
  std::shared_ptr<Stem> stem_;
  std::optional<TapeFront> tapes_;
  std::vector<std::shared_ptr<EncoderBlock>> blocks_;  // one, or one a step
  std::shared_ptr<Linear> halting_;                    // [1, D]
  torch::Tensor step_embedding_;                       // [max_steps, D]
  std::shared_ptr<Head> head_;
};

}  // namespace adatape
