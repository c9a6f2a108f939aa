#include "adatape/models/adatape.h"

namespace adatape {

AdaTapeConfig::AdaTapeConfig() {
  banks.resize(1);
  readers.resize(1);
}

void AdaTapeConfig::fields(FieldVisitor& visit) {
  EncoderConfig::fields(visit);
  visit.integer("blocks", blocks, {1, 10000}, "number of encoder blocks");
  visit.real("ponder_weight", ponder_weight, {0, 1e6}, "lambda: weight of the ponder loss, all readings added up");
  tape_fields(visit);
}

void AdaTapeConfig::resolve(const InputSpec& input) {
  EncoderConfig::resolve(input);
  resolve_tape(*this);
}

void AdaTapeConfig::validate(const InputSpec& input) const {
  EncoderConfig::validate(input);
  validate_tape(*this, blocks);
}

AdaTape::AdaTape(const AdaTapeConfig& config, const InputSpec& input) : config_(config) {
  stem_ = register_module("stem", std::make_shared<Stem>(config.stem, input, config.width));
  stem_->exact_patches = !config.readers.empty();
  tapes_.emplace(config, config, input,
                 [this](const std::string& name, const std::shared_ptr<Module>& module) { register_module(name, module); });
  const int64_t first = config.readers.empty() ? config.blocks : config.readers.front().before_block;
  for (int64_t i = 0; i < config.blocks; ++i) {
    const EncoderBlockShape shape = config.block_shape(i, config.blocks, i >= first ? *config.tape_ffn_width : 0);
    blocks_.push_back(register_module("block_" + std::to_string(i), std::make_shared<EncoderBlock>(shape)));
  }
  head_ = register_module("head", std::make_shared<Head>(config.head, config.width, input.classes));
}

void AdaTape::initialize(uint64_t seed, uint64_t draw) {
  at::Generator generator = parameter_generator(seed, draw);
  stem_->initialize(generator);
  tapes_->initialize(generator);
  for (const auto& block : blocks_) block->initialize(generator);
  head_->initialize(generator);
}

ModelOutput AdaTape::forward(const Batch& batch, const ForwardOptions& options) {
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  PackedTokens tokens = stem_->forward(batch, context);
  TapeFront::Pass pass;
  for (int64_t i = 0; i < config_.blocks; ++i) {
    tokens = tapes_->read(pass, i, std::move(tokens), batch, context, output);
    if (options.record) output.block_tokens.push_back(tokens.layout->lengths());  // a pooled block reads them all, too
    tokens = run_block(config_, *blocks_[i], i, config_.blocks, tokens, context);
  }
  if (pass.ponder.defined()) output.auxiliary_losses.push_back({"ponder", pass.ponder, config_.ponder_weight});
  answer(*head_, tokens, context, output);
  return output;
}

}  // namespace adatape
