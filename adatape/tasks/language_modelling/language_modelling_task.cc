#include "adatape/tasks/language_modelling/language_modelling_task.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <cmath>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/data/text_files.h"
#include "adatape/tasks/classification.h"

namespace adatape {
namespace {

constexpr char kLanguageModellingWhere[] = "task language_modelling";
constexpr int64_t kLanguageModellingBytes = 256;

// Symbols are bytes, but for imported weights: ids of a tokeniser that is not here would be taken for bytes, and written as such.
void check_symbols_are_bytes(int64_t vocabulary) {
  ADATAPE_CHECK(vocabulary == kLanguageModellingBytes, kLanguageModellingWhere, "expected task.vocabulary = 256 to read bytes, got ",
                vocabulary, "; the ids of another tokeniser are what `adatape forward` takes");
}

}  // namespace

void LanguageModellingConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "name of the task");
  visit.text("path", path, "a text file, or a folder of them; Debian's fortunes, fortunes-de, -es and -it put theirs where the default is");
  visit.integer("context", context, {1, kTextBlock - 1}, "bytes that are read, and predicted, in an example");
  visit.integer(
      "prefix", prefix, {0, kTextBlock - 1},
      "for an encoder-decoder: so many bytes are read by the encoder, the rest of the window is the decoder's answer; 0 = a decoder alone");
  visit.integer(
      "vocabulary", vocabulary, {2, 100'000'000},
      "symbols; another number than the 256 bytes is for imported weights with a tokeniser of their own, whose ids `adatape forward` "
      "takes");
  visit.integer("n_gram", n_gram, {1, 3}, "order of the n-gram that is shown beside: how many bytes it goes by");
}

void LanguageModellingConfig::validate() const {
  ADATAPE_CHECK(prefix <= context, kLanguageModellingWhere, "expected prefix <= context, got ", prefix, " and ", context);
}

InputSpec LanguageModellingConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = spec.classes = vocabulary;
  spec.length = prefix > 0 ? prefix : context;
  if (prefix > 0) spec.decoder_length = context + 1 - prefix;
  spec.answers_each = true;
  return spec;
}

std::vector<int64_t> LanguageModellingConfig::read_text(const std::string& text) const {
  check_symbols_are_bytes(vocabulary);
  std::vector<int64_t> symbols;
  for (const char byte : text) symbols.push_back(static_cast<uint8_t>(byte));
  return symbols;
}

std::string LanguageModellingConfig::write_text(const std::vector<int64_t>& symbols) const {
  check_symbols_are_bytes(vocabulary);
  std::string text;
  for (const int64_t symbol : symbols) text += static_cast<char>(static_cast<uint8_t>(symbol));
  return text;
}

namespace {

std::string whole_text(const std::string& path) {
  std::string whole;
  for (const std::string& text : read_text_files(path, text_hint(path))) whole += text;
  return whole;
}

const LanguageModellingConfig& checked(const LanguageModellingConfig& config) {
  config.validate();
  check_symbols_are_bytes(config.vocabulary);
  return config;
}

}  // namespace

LanguageModellingTask::LanguageModellingTask(const LanguageModellingConfig& config)
    : config_(checked(config)), windows_(kLanguageModellingWhere, whole_text(config.path), config.context + 1, config.path) {}

// No ATen kernels here, only at::empty: batches are made on threads that must not start an OpenMP team each.
Batch LanguageModellingTask::batch_of(const std::vector<int64_t>& starts, const std::vector<int64_t>& examples) const {
  const auto count = static_cast<int64_t>(starts.size()), prefix = config_.prefix;
  const int64_t length = prefix > 0 ? prefix : config_.context, first_answer = prefix > 0 ? prefix : 1,
                answers = config_.context + 1 - first_answer;
  Batch batch;
  batch.symbols = at::empty({count * length}, at::kLong);
  batch.labels = at::empty({count * answers}, at::kLong);
  batch.examples = at::empty({count}, at::kLong);
  batch.offsets.push_back(0);
  if (prefix > 0) {
    batch.decoder_symbols = at::empty({count * answers}, at::kLong);
    batch.decoder_offsets.push_back(0);
  }
  for (int64_t b = 0; b < count; ++b) {
    const char* text = windows_.text().data() + starts[static_cast<size_t>(b)];
    for (int64_t i = 0; i < length; ++i) batch.symbols.data_ptr<int64_t>()[b * length + i] = static_cast<uint8_t>(text[i]);
    for (int64_t i = 0; i < answers; ++i) {
      batch.labels.data_ptr<int64_t>()[b * answers + i] = static_cast<uint8_t>(text[first_answer + i]);
      if (prefix > 0)
        batch.decoder_symbols.data_ptr<int64_t>()[b * answers + i] = i == 0 ? 0 : static_cast<uint8_t>(text[first_answer + i - 1]);
    }
    batch.examples.data_ptr<int64_t>()[b] = examples[static_cast<size_t>(b)];
    batch.offsets.push_back((b + 1) * length);
    if (prefix > 0) batch.decoder_offsets.push_back((b + 1) * answers);
  }
  return batch;
}

Batch LanguageModellingTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, kLanguageModellingWhere, "expected a batch size >= 1, got ", batch_size);
  std::vector<int64_t> starts, examples;
  for (int64_t b = 0; b < batch_size; ++b) {
    CounterRng random(seed, step, site(Site::kData), static_cast<uint64_t>(b));
    starts.push_back(windows_.draw_start(random));
    examples.push_back(static_cast<int64_t>(step) * batch_size + b);
  }
  return batch_of(starts, examples);
}

Batch LanguageModellingTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const std::vector<int64_t>& windows = windows_.held_out(split);
  ADATAPE_CHECK(first >= 0 && count >= 0 && first + count <= static_cast<int64_t>(windows.size()), kLanguageModellingWhere,
                "expected held-out examples within 0 .. ", windows.size() - 1, ", got ", count, " from ", first);
  std::vector<int64_t> examples;
  for (int64_t i = 0; i < count; ++i) examples.push_back(first + i);
  return batch_of({windows.begin() + first, windows.begin() + first + count}, examples);
}

at::Tensor LanguageModellingTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return sequence_loss(kLanguageModellingWhere, logits, batch.labels, batch.answer_offsets(), kLanguageModellingBytes);
}

at::Tensor LanguageModellingTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return sequence_correct(kLanguageModellingWhere, logits, batch.labels, batch.answer_offsets(), kLanguageModellingBytes);
}

std::vector<std::pair<std::string, double>> LanguageModellingTask::describe_loss(double loss, Split split) const {
  const std::vector<int64_t>& starts = windows_.held_out(split);
  const std::string& text = windows_.text();
  const std::lock_guard<std::mutex> guard(lock_);
  if (n_gram_bits_.count(split) == 0) {
    std::vector<std::string> training, windows;
    for (const auto& [begin, end] : windows_.training_runs())
      training.push_back(text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
    for (const int64_t start : starts) windows.push_back(text.substr(static_cast<size_t>(start), static_cast<size_t>(config_.context) + 1));
    n_gram_bits_[split] =
        NGram(static_cast<int>(config_.n_gram), training).bits_per_byte(windows, static_cast<size_t>(std::max<int64_t>(config_.prefix, 1)));
  }
  return {{"bits per byte", loss / std::log(2.0)}, {concat("bits per byte of an order-", config_.n_gram, " n-gram"), n_gram_bits_[split]}};
}

at::Tensor LanguageModellingTask::example_covariate(const Batch& batch) const {
  return at::full({batch.size()}, static_cast<double>(config_.context), at::kFloat);
}

std::unique_ptr<TaskConfig> make_language_modelling_config() { return std::make_unique<LanguageModellingConfig>(); }

std::unique_ptr<Task> make_language_modelling_task(const TaskConfig& config) {
  const auto* own = dynamic_cast<const LanguageModellingConfig*>(&config);
  ADATAPE_CHECK(own != nullptr, kLanguageModellingWhere, "expected the configuration of task language_modelling, got that of \"",
                config.name, '"');
  return std::make_unique<LanguageModellingTask>(*own);
}

}  // namespace adatape
