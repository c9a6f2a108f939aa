// A-ViT: a vision transformer whose tokens halt at their own depth and then leave the sequence. Source: arXiv 2112.07658. With readers,
// tape tokens (arXiv 2301.13195) stand in front of the first block and halt like all others.
#pragma once

#include "adatape/models/tape_front.h"

namespace adatape {

// The defaults are those published for the tiny size, gate_center 75 for the small one.
struct AVitConfig : EncoderConfig, TapeFrontConfig {
  AVitConfig();
  int64_t blocks = 12;
  double gate_scale = 10;
  double gate_center = 30;
  double epsilon = 0.01;
  double ponder_weight = 5e-4;
  double distribution_weight = 1e-3;
  double prior_mean = 8;
  double prior_deviation = 1;
  double tape_ponder_weight = 0.01;

  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
};

// A halted token is neither query nor key of later blocks: it is not in the pack. The head reads, of each token that it pools, the sum over
// blocks of weight x state; sums that it does not read are not made. Auxiliary losses: "ponder", the mean over an example's tokens of steps
// + remainder; "distribution", of the batch as a whole.
class AVit : public Model {
 public:
  AVit(const AVitConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  std::vector<TapeReader*> tape_readers() override { return tapes_->readers(); }
  bool examples_are_independent() const override {
    return config_.distribution_weight == 0 && config_.moe.examples_are_independent() &&
           config_.TapeFrontConfig::examples_are_independent();
  }

 private:
  AVitConfig config_;
  std::shared_ptr<Stem> stem_;
  std::optional<TapeFront> tapes_;
  std::vector<std::shared_ptr<EncoderBlock>> blocks_;
  std::shared_ptr<Head> head_;
};

}  // namespace adatape
