#include "adatape/tasks/algorithmic/algorithmic_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/tasks/classification.h"
#include "adatape/tasks/to_tensor.h"

namespace adatape {
namespace {

constexpr char kAlgorithmicWhere[] = "task algorithmic";
constexpr int64_t kStart = 0, kStop = 1, kAlgorithmicZero = 2, kPlus = 12, kBlank = 13, kAlgorithmicSymbols = 14;
constexpr int64_t kHeldOutSize = 100'000;
constexpr uint64_t kAlgorithmicHeldOutSeed = 0x616c'676f'7269'7468;  // "algorith"

// Draws `count` examples; random_of(i) is the stream of example i, length_of(i, stream) its digits.
Batch make_batch(const AlgorithmicConfig& config, int64_t count, uint64_t first_example,
                 const std::function<CounterRng(int64_t)>& random_of, const std::function<int64_t(int64_t, CounterRng&)>& length_of) {
  const bool addition = config.operation == "addition", decoder = config.form == "decoder";
  std::vector<int64_t> symbols, answers, labels, examples, places;
  const auto place_number = [&](int64_t length) {  // the places of the digits that come next
    for (int64_t d = 0; d < length; ++d) places.insert(places.end(), {d, length - 1 - d});
  };
  const auto place_nothing = [&] { places.insert(places.end(), {-1, -1}); };
  Batch batch;
  batch.offsets = {0};
  if (decoder) batch.decoder_offsets = {0};
  for (int64_t i = 0; i < count; ++i) {
    CounterRng random = random_of(i);
    const int64_t length = length_of(i, random);
    std::vector<int64_t> digits;
    for (int64_t d = 0; d < (addition ? 2 : 1) * length; ++d) {
      if (d % length == 0) {
        if (d > 0) {
          symbols.push_back(kPlus);
          place_nothing();
        }
        place_number(length);
      }
      digits.push_back(static_cast<int64_t>(random.below(10)));
      symbols.push_back(kAlgorithmicZero + digits.back());
    }
    const std::vector<int64_t> answer = algorithmic_answer(config.operation, digits, /*zeros_in_front=*/!decoder);
    if (decoder) {
      // The question's end, as T5 has it. Without it a question of one digit many times has equal states at all places, so that attention,
      // a mean of them, cannot tell 7 from 77: relative biases move scores alone.
      symbols.push_back(kStop);
      answers.push_back(kStart);
      for (const int64_t digit : answer) {
        answers.push_back(kAlgorithmicZero + digit);
        labels.push_back(kAlgorithmicZero + digit);
      }
      labels.push_back(kStop);
      batch.decoder_offsets.push_back(static_cast<int64_t>(answers.size()));
    } else {
      symbols.push_back(kStart);
      labels.resize(symbols.size(), -1);
      place_nothing();
      place_number(static_cast<int64_t>(answer.size()));
      for (const int64_t digit : answer) {
        symbols.push_back(kBlank);
        labels.push_back(kAlgorithmicZero + digit);
      }
    }
    batch.offsets.push_back(static_cast<int64_t>(symbols.size()));
    examples.push_back(static_cast<int64_t>(first_example) + i);
  }
  batch.symbols = to_tensor(symbols);
  if (decoder) batch.decoder_symbols = to_tensor(answers);
  if (config.places == "digits") batch.places = to_tensor(places).view({-1, 2});
  batch.labels = to_tensor(labels);
  batch.examples = to_tensor(examples);
  return batch;
}

}  // namespace

std::vector<int64_t> algorithmic_answer(const std::string& operation, const std::vector<int64_t>& digits, bool zeros_in_front) {
  std::vector<int64_t> answer = digits;
  if (operation == "copy") return answer;
  if (operation == "reverse") {
    std::reverse(answer.begin(), answer.end());
    return answer;
  }
  const size_t length = digits.size() / 2;
  answer.assign(length + 1, 0);
  int64_t carry = 0;
  for (size_t place = length; place-- > 0;) {
    const int64_t sum = digits[place] + digits[length + place] + carry;
    answer[place + 1] = sum % 10;
    carry = sum / 10;
  }
  answer.front() = carry;
  if (!zeros_in_front) {
    const auto first = std::find_if(answer.begin(), answer.end() - 1, [](int64_t digit) { return digit != 0; });
    answer.erase(answer.begin(), first);
  }
  return answer;
}

void AlgorithmicConfig::fields(FieldVisitor& visit) {
  const IntegerRange range{.minimum = 1, .maximum = 100000};
  visit.text("name", name, "name of the task");
  visit.choice("operation", operation, {"copy", "reverse", "addition"}, "what is done with the digits");
  visit.choice(
      "form", form, {"decoder", "each"},
      "decoder: an encoder-decoder reads the question and writes the answer; each: any model that answers at each element reads the "
      "question and blanks, and fills these in");
  visit.choice(
      "places", places, {"sequence", "digits"},
      "what learned positions count: places in the sequence, or, with form = \"each\", those of a digit in its number, from both ends");
  visit.integer("shortest", shortest, range, "fewest digits of a number in training");
  visit.integer("longest", longest, range, "most digits of a number in training");
  visit.integer("curriculum_steps", curriculum_steps, {.minimum = 0, .maximum = 1'000'000'000},
                "training steps over which the longest number grows evenly from shortest to longest digits; 0: longest from the first");
  visit.integers("test_lengths", test_lengths, range, "digits of the test split, taken in turn; empty: as in training");
}

void AlgorithmicConfig::validate() const {
  ADATAPE_CHECK(shortest <= longest, kAlgorithmicWhere, "expected shortest <= longest, got ", shortest, " and ", longest);
  ADATAPE_CHECK(places == "sequence" || form == "each", kAlgorithmicWhere, "task.places: \"digits\" needs task.form = \"each\"");
}

InputSpec AlgorithmicConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = spec.classes = kAlgorithmicSymbols;
  spec.answers_each = true;
  const bool addition = operation == "addition";
  int64_t digits = longest;  // learned positions have places for what is tested, too
  for (const int64_t length : test_lengths) digits = std::max(digits, length);
  const int64_t question = addition ? 2 * digits + 1 : digits, answer = addition ? digits + 1 : digits;
  spec.length = question + 1 + (form == "each" ? answer : 0);
  if (form == "decoder") spec.decoder_length = answer + 1;
  if (places == "digits") spec.axes = {answer, answer};
  return spec;
}

std::vector<int64_t> AlgorithmicConfig::read_text(const std::string& text) const {
  ADATAPE_CHECK(form == "decoder", kAlgorithmicWhere, "expected task.form = \"decoder\" for text that is answered, got \"", form,
                "\", where a model fills blanks in and writes nothing on; `adatape evaluate` measures it");
  ADATAPE_CHECK(!text.empty(), kAlgorithmicWhere, "expected digits and +, got an empty text");
  std::vector<int64_t> symbols;
  for (const char letter : text) {
    ADATAPE_CHECK((letter >= '0' && letter <= '9') || letter == '+', kAlgorithmicWhere, "expected digits and +, got \"", text, '"');
    symbols.push_back(letter == '+' ? kPlus : kAlgorithmicZero + (letter - '0'));
  }
  symbols.push_back(kStop);
  return symbols;
}

std::string AlgorithmicConfig::write_text(const std::vector<int64_t>& symbols) const {
  std::string text;
  for (const int64_t symbol : symbols) {
    if (symbol == kStop) break;
    text += symbol == kPlus ? '+' : symbol >= kAlgorithmicZero && symbol < kPlus ? static_cast<char>('0' + symbol - kAlgorithmicZero) : '_';
  }
  return text;
}

int64_t AlgorithmicConfig::start_symbol() const { return kStart; }
int64_t AlgorithmicConfig::stop_symbol() const { return kStop; }

AlgorithmicTask::AlgorithmicTask(const AlgorithmicConfig& config) : config_(config) { config_.validate(); }

Batch AlgorithmicTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, kAlgorithmicWhere, "expected a batch size >= 1, got ", batch_size);
  const auto steps = static_cast<uint64_t>(config_.curriculum_steps);
  auto more = static_cast<uint64_t>(config_.longest - config_.shortest);  // digits than the shortest has
  if (step < steps) more = more * step / steps;
  return make_batch(
      config_, batch_size, step * static_cast<uint64_t>(batch_size),
      [&](int64_t i) { return CounterRng(seed, step, site(Site::kData, 0), static_cast<uint64_t>(i)); },
      [&](int64_t, CounterRng& random) { return config_.shortest + static_cast<int64_t>(random.below(more + 1)); });
}

Batch AlgorithmicTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const int64_t size = held_out_size(split);
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= size && count <= size - first, kAlgorithmicWhere,
                "expected held-out examples within 0 .. ", size - 1, ", got ", count, " from ", first);
  const bool own_lengths = split == Split::kTest && !config_.test_lengths.empty();
  return make_batch(
      config_, count, static_cast<uint64_t>(first),
      [&](int64_t i) {
        return CounterRng(kAlgorithmicHeldOutSeed, 0, site(Site::kData, split == Split::kTest ? 2 : 1), static_cast<uint64_t>(first + i));
      },
      [&](int64_t i, CounterRng& random) {
        if (own_lengths) return config_.test_lengths[static_cast<size_t>(first + i) % config_.test_lengths.size()];
        return config_.shortest + static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.longest - config_.shortest + 1)));
      });
}

int64_t AlgorithmicTask::held_out_size(Split split) const {
  ADATAPE_CHECK(split != Split::kTrain, kAlgorithmicWhere, "expected the validation or test split, got the training split");
  return kHeldOutSize;
}

at::Tensor AlgorithmicTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return sequence_loss(kAlgorithmicWhere, logits, batch.labels, batch.answer_offsets(), kAlgorithmicSymbols);
}

at::Tensor AlgorithmicTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return sequence_correct(kAlgorithmicWhere, logits, batch.labels, batch.answer_offsets(), kAlgorithmicSymbols);
}

at::Tensor AlgorithmicTask::example_covariate(const Batch& batch) const {
  const at::Tensor symbols = batch.symbols.cpu().contiguous();
  const int64_t* data = symbols.data_ptr<int64_t>();
  at::Tensor digits = at::empty({batch.size()}, at::kFloat);
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t count = std::count_if(data + batch.offsets[static_cast<size_t>(b)], data + batch.offsets[static_cast<size_t>(b) + 1],
                                        [](int64_t symbol) { return symbol >= kAlgorithmicZero && symbol < kPlus; });
    digits.data_ptr<float>()[b] = static_cast<float>(config_.operation == "addition" ? count / 2 : count);
  }
  return digits;
}

std::vector<std::string> AlgorithmicTask::symbol_names() const {
  return {"start", "stop", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "+", "blank"};
}

std::unique_ptr<TaskConfig> make_algorithmic_config() { return std::make_unique<AlgorithmicConfig>(); }

std::unique_ptr<Task> make_algorithmic_task(const TaskConfig& config) {
  const auto* own = dynamic_cast<const AlgorithmicConfig*>(&config);
  ADATAPE_CHECK(own != nullptr, kAlgorithmicWhere, "expected the configuration of task algorithmic, got that of \"", config.name, '"');
  return std::make_unique<AlgorithmicTask>(*own);
}

}  // namespace adatape
