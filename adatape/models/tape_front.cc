#include "adatape/models/tape_front.h"

#include <algorithm>
#include <map>
#include <set>

#include "adatape/core/check.h"

namespace adatape {

bool TapeFrontConfig::examples_are_independent() const {
  return std::all_of(readers.begin(), readers.end(), [](const TapeReaderConfig& reader) { return reader.score_weight == 0; });
}

void TapeFrontConfig::tape_fields(FieldVisitor& visit) {
  visit.integer_or(
      "tape_ffn_width", tape_ffn_width, "ffn_width", {0, 1000000},
      "inner width of the second feed-forward network (GLU) that serves tape tokens from the first reading block on; 0 = shared network");
  visit.list("banks", banks, "the tape banks");
  visit.list("readers", readers, "the readings, each with its place, bank and rule");
}

void TapeFrontConfig::resolve_tape(const EncoderConfig& encoder) {
  if (!tape_ffn_width) tape_ffn_width = encoder.ffn_width;
  for (size_t i = 0; i < readers.size(); ++i) readers[i].resolve(static_cast<int64_t>(i), encoder.width, encoder.heads);
}

void TapeFrontConfig::validate_tape(const EncoderConfig& encoder, int64_t blocks) const {
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
    const bool token = reader.query == "token" || (reader.query == "auto" && encoder.head.pooling == "token");
    ADATAPE_CHECK(!token || encoder.stem.class_token, "config", key, "query: \"token\" needs model.class_token = true");
    if (reader.query != "learned") ++unlearned[reader.before_block];
  }
  for (const auto& [block, count] : unlearned) {
    ADATAPE_CHECK(count == 1, "config", "model.readers: ", count, " readers before block ", block,
                  " share one query and would read the same; set query = \"learned\" on all but one");
  }
}

TapeFront::TapeFront(const TapeFrontConfig& config, const EncoderConfig& encoder, const InputSpec& input, const Own& own)
    : width_(encoder.width), class_token_asks_(encoder.head.pooling == "token") {
  for (const TapeBankConfig& bank : config.banks) {
    banks_.push_back(std::make_shared<TapeBank>(bank, input, width_));
    own("bank_" + bank.name, banks_.back());
  }
  for (size_t i = 0; i < config.readers.size(); ++i) {
    const TapeReaderConfig& reader = config.readers[i];
    readers_.push_back(std::make_shared<TapeReader>(reader, static_cast<int64_t>(i), width_));
    own("reader_" + std::to_string(i), readers_.back());
    const auto bank =
        std::find_if(config.banks.begin(), config.banks.end(), [&](const TapeBankConfig& b) { return b.name == reader.bank; });
    bank_of_reader_.push_back(static_cast<size_t>(bank - config.banks.begin()));
  }
}

void TapeFront::initialize(at::Generator& generator) {
  for (const auto& bank : banks_) bank->initialize(generator);
  for (const auto& reader : readers_) reader->initialize(generator);
}

std::vector<TapeReader*> TapeFront::readers() const {
  std::vector<TapeReader*> readers;
  for (const auto& reader : readers_) readers.push_back(reader.get());
  return readers;
}

torch::Tensor TapeFront::query_of(const TapeReader& reader, const PackedTokens& tokens) const {
  if (reader.query.defined()) return reader.query.expand({tokens.layout->batch(), width_});
  const bool token = reader.config.query == "token" || (reader.config.query == "auto" && class_token_asks_);
  return token ? class_tokens(tokens) : mean_per_example(tokens);
}

PackedTokens TapeFront::read(Pass& pass, int64_t block, PackedTokens tokens, const Batch& batch, const ForwardContext& context,
                             ModelOutput& output) const {
  pass.rows.resize(banks_.size());
  for (; pass.next < readers_.size() && readers_[pass.next]->config.before_block == block; ++pass.next) {
    const TapeReader& reader = *readers_[pass.next];
    BankRows& bank = pass.rows[bank_of_reader_[pass.next]];
    if (!bank.values.defined()) bank = banks_[bank_of_reader_[pass.next]]->forward(batch, context);
    TapeReading reading;
    tokens = reader.forward(tokens, query_of(reader, tokens), bank, context, reading);
    pass.ponder = pass.ponder.defined() ? pass.ponder + reading.ponder : reading.ponder;
    if (reading.query_log_density.defined()) output.random_choices.push_back({reading.query_log_density, reader.config.score_weight});
    output.readings.push_back(std::move(reading));
  }
  return tokens;
}

}  // namespace adatape
