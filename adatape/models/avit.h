// A-ViT: a vision transformer whose tokens halt at their own depth and then leave the sequence. Source: arXiv 2112.07658.
#pragma once

#include "adatape/models/encoder_config.h"

namespace adatape {

// The defaults are those published for the tiny size, gate_center 75 for the small one.
struct AVitConfig : EncoderConfig {
  AVitConfig();
  int64_t blocks = 12;
  double gate_scale = 10;
  double gate_center = 30;
  double epsilon = 0.01;
  double ponder_weight = 5e-4;
  double distribution_weight = 1e-3;
  double prior_mean = 8;
  double prior_deviation = 1;

  void fields(FieldVisitor& visit) override;
};

// A halted token is neither query nor key of later blocks: it is not in the pack. The head reads, of each token that it pools, the sum over
// blocks of weight x state; sums that it does not read are not made. Auxiliary losses: "ponder", the mean over an example's tokens of steps
// + remainder; "distribution", of the batch as a whole.
class AVit : public Model {
 public:
  AVit(const AVitConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  bool examples_are_independent() const override { return config_.distribution_weight == 0 && config_.moe.examples_are_independent(); }

 private:
  AVitConfig config_;
  std::shared_ptr<Stem> stem_;
  std::vector<std::shared_ptr<EncoderBlock>> blocks_;
  std::shared_ptr<Head> head_;
};

}  // namespace adatape
