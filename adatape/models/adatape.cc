#include "adatape/models/adatape.h"

#include <algorithm>
#include <map>
#include <set>

#include "adatape/core/check.h"

namespace adatape {

void AdaTapeConfig::fields(FieldVisitor& visit) {
  EncoderConfig::fields(visit);
  visit.integer("blocks", blocks, {1, 10000}, "number of encoder blocks");
  visit.real("ponder_weight", ponder_weight, {0, 1e6}, "lambda: weight of the ponder loss, all readings added up");
  visit.integer_or(
      "tape_ffn_width", tape_ffn_width, "ffn_width", {0, 1000000},
      "inner width of the second feed-forward network (GLU) that serves tape tokens from the first reading block on; 0 = shared network");
  visit.list("banks", banks, "the tape banks");
  visit.list("readers", readers, "the readings, each with its place, bank and rule");
}

void AdaTapeConfig::resolve(const InputSpec& input) {
  EncoderConfig::resolve(input);
  if (!tape_ffn_width) tape_ffn_width = ffn_width;
  for (size_t i = 0; i < readers.size(); ++i) readers[i].resolve(static_cast<int64_t>(i), width, heads);
}

void AdaTapeConfig::validate(const InputSpec& input) const {
  EncoderConfig::validate(input);
  std::set<std::string> names;
  for (const TapeBankConfig& bank : banks) {
    ADATAPE_CHECK(!bank.name.empty() && bank.name.find('.') == std::string::npos, "config",
                  "model.banks: expected a name without dots, got \"", bank.name, "\"");
    ADATAPE_CHECK(names.insert(bank.name).second, "config", "model.banks: expected different names, got \"", bank.name, "\" twice");
  }
  std::map<int64_t, int64_t> unlearned;  // readings before a block whose query is not learned
  for (size_t i = 0; i < readers.size(); ++i) {
    const TapeReaderConfig& reader = readers[i];
    const std::string key = "model.readers." + std::to_string(i) + ".";
    ADATAPE_CHECK(names.count(reader.bank) == 1, "config", key, "bank: expected the name of one of model.banks, got \"", reader.bank, "\"");
    ADATAPE_CHECK(reader.before_block < blocks, "config", key, "before_block: expected 0 .. ", blocks - 1, ", got ", reader.before_block);
    ADATAPE_CHECK(i == 0 || readers[i - 1].before_block <= reader.before_block, "config", key,
                  "before_block: expected readers in the order of their blocks, got ", reader.before_block, " after ",
                  readers[i - 1].before_block);
    const bool token = reader.query == "token" || (reader.query == "auto" && head.pooling == "token");
    ADATAPE_CHECK(!token || stem.class_token, "config", key, "query: \"token\" needs model.class_token = true");
    if (reader.query != "learned") ++unlearned[reader.before_block];
  }
  for (const auto& [block, count] : unlearned) {
    ADATAPE_CHECK(count == 1, "config", "model.readers: ", count, " readers before block ", block,
                  " share one query and would read the same; set query = \"learned\" on all but one");
  }
}

AdaTape::AdaTape(const AdaTapeConfig& config, const InputSpec& input) : config_(config) {
  stem_ = register_module("stem", std::make_shared<Stem>(config.stem, input, config.width));
  stem_->exact_patches = !config.readers.empty();
  for (const TapeBankConfig& bank : config.banks) {
    banks_.push_back(register_module("bank_" + bank.name, std::make_shared<TapeBank>(bank, input, config.width)));
  }
  for (size_t i = 0; i < config.readers.size(); ++i) {
    const TapeReaderConfig& reader = config.readers[i];
    readers_.push_back(
        register_module("reader_" + std::to_string(i), std::make_shared<TapeReader>(reader, static_cast<int64_t>(i), config.width)));
    const auto bank =
        std::find_if(config.banks.begin(), config.banks.end(), [&](const TapeBankConfig& b) { return b.name == reader.bank; });
    bank_of_reader_.push_back(static_cast<size_t>(bank - config.banks.begin()));
  }
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
  for (const auto& bank : banks_) bank->initialize(generator);
  for (const auto& reader : readers_) reader->initialize(generator);
  for (const auto& block : blocks_) block->initialize(generator);
  head_->initialize(generator);
}

std::vector<TapeReader*> AdaTape::tape_readers() {
  std::vector<TapeReader*> readers;
  for (const auto& reader : readers_) readers.push_back(reader.get());
  return readers;
}

torch::Tensor AdaTape::query_of(const TapeReader& reader, const PackedTokens& tokens) const {
  if (reader.query.defined()) return reader.query.expand({tokens.layout->batch(), config_.width});
  const bool token = reader.config.query == "token" || (reader.config.query == "auto" && config_.head.pooling == "token");
  return token ? class_tokens(tokens) : mean_per_example(tokens);
}

ModelOutput AdaTape::forward(const Batch& batch, const ForwardOptions& options) {
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  PackedTokens tokens = stem_->forward(batch, context);
  std::vector<BankRows> rows(banks_.size());  // made at their first reading, shared by later ones
  torch::Tensor ponder;
  size_t next = 0;
  for (int64_t i = 0; i < config_.blocks; ++i) {
    for (; next < readers_.size() && readers_[next]->config.before_block == i; ++next) {
      BankRows& bank = rows[bank_of_reader_[next]];
      if (!bank.values.defined()) bank = banks_[bank_of_reader_[next]]->forward(batch, context);
      TapeReading reading;
      tokens = readers_[next]->forward(tokens, query_of(*readers_[next], tokens), bank, context, reading);
      ponder = ponder.defined() ? ponder + reading.ponder : reading.ponder;
      if (reading.query_log_density.defined())
        output.random_choices.push_back({reading.query_log_density, readers_[next]->config.score_weight});
      output.readings.push_back(std::move(reading));
    }
    if (options.record) output.block_tokens.push_back(tokens.layout->lengths());  // a pooled block reads them all, too
    tokens = run_block(config_, *blocks_[i], i, config_.blocks, tokens, context);
  }
  if (ponder.defined()) output.auxiliary_losses.push_back({"ponder", ponder, config_.ponder_weight});
  answer(*head_, tokens, context, output);
  return output;
}

}  // namespace adatape
