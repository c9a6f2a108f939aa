// AdaTape: a transformer with an elastic input sequence. Source: arXiv 2301.13195; docs/adatape.md has the equations and every option.
#pragma once

#include "adatape/models/tape_front.h"

namespace adatape {

struct AdaTapeConfig : EncoderConfig, TapeFrontConfig {
  int64_t blocks = 2;
  double ponder_weight = 0.01;  // lambda

  AdaTapeConfig();  // one bank, one reader
  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
};

class AdaTape : public Model {
 public:
  AdaTape(const AdaTapeConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  std::vector<TapeReader*> tape_readers() override { return tapes_->readers(); }
  bool examples_are_independent() const override {
    return config_.moe.examples_are_independent() && config_.TapeFrontConfig::examples_are_independent();
  }

 private:
  AdaTapeConfig config_;
  std::shared_ptr<Stem> stem_;
  std::optional<TapeFront> tapes_;
  std::vector<std::shared_ptr<EncoderBlock>> blocks_;
  std::shared_ptr<Head> head_;
};

}  // namespace adatape
