// The tape banks of a model and the readers that append to its tokens: AdaTape's elastic input (arXiv 2301.13195), in front of any encoder.
#pragma once

#include <functional>

#include "adatape/models/encoder_config.h"
#include "adatape/nn/tape_reader.h"

namespace adatape {

// A config that has these keys derives from it, beside EncoderConfig. Without readers nothing is read.
struct TapeFrontConfig {
  std::optional<int64_t> tape_ffn_width;  // "ffn_width": as wide as the other one; 0: shared
  std::vector<TapeBankConfig> banks;
  std::vector<TapeReaderConfig> readers;
  // score_weight sets an example's loss against its batch mates'.
  bool examples_are_independent() const;

 protected:
  void tape_fields(FieldVisitor& visit);
  void resolve_tape(const EncoderConfig& encoder);
  void validate_tape(const EncoderConfig& encoder, int64_t blocks) const;
};

class TapeFront {
 public:
  // own(name, module) makes a bank or a reader the model's: "bank_NAME", "reader_I".
  using Own = std::function<void(const std::string& name, const std::shared_ptr<Module>& module)>;
  TapeFront(const TapeFrontConfig& config, const EncoderConfig& encoder, const InputSpec& input, const Own& own);
  void initialize(at::Generator& generator);
  std::vector<TapeReader*> readers() const;

  // What one forward pass keeps from reading to reading.
  struct Pass {
    std::vector<BankRows> rows;  // of each bank, made at its first reading
    size_t next = 0;             // reader
    torch::Tensor ponder;        // [B], of all readings; undefined before the first
  };
  // The tokens with what the readers before this block (0, 1 .. in order) append. Readings and random choices go into output.
  PackedTokens read(Pass& pass, int64_t block, PackedTokens tokens, const Batch& batch, const ForwardContext& context,
                    ModelOutput& output) const;

 private:
  torch::Tensor query_of(const TapeReader& reader, const PackedTokens& tokens) const;
  int64_t width_;
  bool class_token_asks_;  // what query = "auto" is
  std::vector<std::shared_ptr<TapeBank>> banks_;
  std::vector<std::shared_ptr<TapeReader>> readers_;
  std::vector<size_t> bank_of_reader_;
};

}  // namespace adatape
