// AdaTape: a transformer with an elastic input sequence. Source: arXiv 2301.13195; docs/adatape.md has the equations and every option.
#pragma once

#include "adatape/models/encoder_config.h"
#include "adatape/nn/tape_reader.h"

namespace adatape {

struct AdaTapeConfig : EncoderConfig {
  int64_t blocks = 2;
  double ponder_weight = 0.01;            // lambda
  std::optional<int64_t> tape_ffn_width;  // "ffn_width": as wide as the other one; 0: shared
  std::vector<TapeBankConfig> banks{TapeBankConfig{}};
  std::vector<TapeReaderConfig> readers{TapeReaderConfig{}};

  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
};

class AdaTape : public Model {
 public:
  AdaTape(const AdaTapeConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  std::vector<TapeReader*> tape_readers() override;
  bool examples_are_independent() const override { return config_.moe.examples_are_independent(); }

 private:
  torch::Tensor query_of(const TapeReader& reader, const PackedTokens& tokens) const;
  AdaTapeConfig config_;
  std::shared_ptr<Stem> stem_;
  std::vector<std::shared_ptr<TapeBank>> banks_;
  std::vector<std::shared_ptr<TapeReader>> readers_;
  std::vector<size_t> bank_of_reader_;
  std::vector<std::shared_ptr<EncoderBlock>> blocks_;
  std::shared_ptr<Head> head_;
};

}  // namespace adatape
