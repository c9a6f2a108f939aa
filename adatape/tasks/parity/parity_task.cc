#include "adatape/tasks/parity/parity_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <functional>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/tasks/classification.h"
#include "adatape/tasks/to_tensor.h"

namespace adatape {
namespace {

constexpr int64_t kParityZero = 1, kOne = 2;  // the ids of symbols 0 and 1
constexpr int64_t kParitySymbols = 3, kParityClasses = 2;
constexpr int64_t kLongest = int64_t{1} << 20;
constexpr int64_t kParityValidationSize = 100'000, kParityTestSize = 1'000'000;
constexpr uint64_t kParityHeldOutSeed = 0x7061'7269'7479'2121;  // "parity!!"

// Sites of the three splits: equal (seed, step, example) at different sites are different streams.
constexpr uint32_t kParityTrainingSite = site(Site::kData, 0), kParityValidationSite = site(Site::kData, 1),
                   kParityTestSite = site(Site::kData, 2);

// The inclusive range of the number of non-zero entries; maximum 0: symbols are uniform instead.
struct NonzeroRange {
  int64_t minimum = 0, maximum = 0;
};

void append_sequence(CounterRng& random, int64_t length, NonzeroRange nonzero, std::vector<int64_t>& symbols) {
  if (nonzero.maximum == 0) {
    for (int64_t place = 0; place < length; ++place) symbols.push_back(static_cast<int64_t>(random.below(kParitySymbols)));
    return;
  }
  const int64_t most = std::min(nonzero.maximum, length);  // a curriculum may be shorter than the range
  const int64_t least = std::min(nonzero.minimum, length);
  int64_t wanted = least + static_cast<int64_t>(random.below(static_cast<uint64_t>(most - least + 1)));
  // Selection sampling (Knuth, TAOCP 2, 3.4.2, algorithm S): each set of places is equally likely, in one pass and without a permutation.
  for (int64_t place = 0; place < length; ++place) {
    const bool chosen = wanted > 0 && static_cast<int64_t>(random.below(static_cast<uint64_t>(length - place))) < wanted;
    wanted -= chosen;
    symbols.push_back(chosen ? 2 * static_cast<int64_t>(random.below(2)) : 1);
  }
}

// One vector an example: the numbers that its symbols stand for, then zeros (behind the shorter sequences of a curriculum).
void make_vectors(const std::vector<int64_t>& symbols, int64_t dimension, Batch& batch) {
  const int64_t count = batch.size();
  batch.vectors = at::empty({count, dimension}, at::kFloat);
  float* values = batch.vectors.data_ptr<float>();
  std::fill(values, values + count * dimension, 0.0f);
  for (int64_t b = 0; b < count; ++b) {
    const int64_t begin = batch.offsets[static_cast<size_t>(b)], end = batch.offsets[static_cast<size_t>(b) + 1];
    for (int64_t i = begin; i < end; ++i)
      values[b * dimension + i - begin] = static_cast<float>(symbols[static_cast<size_t>(i)] - kParityZero);
  }
  for (int64_t b = 0; b <= count; ++b) batch.offsets[static_cast<size_t>(b)] = b;
}

// Draws count sequences; draw(i, symbols) appends sequence i. examples are first_example + i.
Batch make_batch(int64_t count, int64_t longest, uint64_t first_example, const ParityConfig& config,
                 const std::function<void(int64_t, std::vector<int64_t>&)>& draw) {
  std::vector<int64_t> symbols, labels, examples;
  Batch batch;
  symbols.reserve(count * longest);
  labels.reserve(count);
  examples.reserve(count);
  batch.offsets.reserve(count + 1);
  batch.offsets.push_back(0);
  for (int64_t i = 0; i < count; ++i) {
    const auto begin = static_cast<int64_t>(symbols.size());
    draw(i, symbols);
    batch.offsets.push_back(static_cast<int64_t>(symbols.size()));
    const auto ones = std::count(symbols.begin() + begin, symbols.end(), kOne);
    labels.push_back(config.target == "parity" ? ones % 2 : symbols[begin] == kOne);
    examples.push_back(static_cast<int64_t>(first_example + static_cast<uint64_t>(i)));
  }
  if (config.form == "vector") {
    make_vectors(symbols, longest, batch);
  } else {
    batch.symbols = to_tensor(symbols);
  }
  batch.labels = to_tensor(labels);
  batch.examples = to_tensor(examples);
  return batch;
}

int64_t longest_of(const std::vector<int64_t>& lengths) { return *std::max_element(lengths.begin(), lengths.end()); }
int64_t shortest_of(const std::vector<int64_t>& lengths) { return *std::min_element(lengths.begin(), lengths.end()); }

void check_nonzero(const std::string& prefix, int64_t minimum, int64_t maximum) {
  ADATAPE_CHECK(minimum <= maximum, "task parity", "expected ", prefix, "nonzero_minimum <= ", prefix, "nonzero_maximum, got ", minimum,
                " and ", maximum);
}

void check_fits(const std::string& maximum_key, int64_t maximum, const std::string& lengths_key, int64_t shortest) {
  ADATAPE_CHECK(maximum <= shortest, "task parity", "expected ", maximum_key, " <= the shortest of ", lengths_key, " (", shortest,
                "), got ", maximum);
}

}  // namespace

void ParityConfig::fields(FieldVisitor& visit) {
  const IntegerRange length_range{.minimum = 1, .maximum = kLongest};
  const IntegerRange count_range{.minimum = 0, .maximum = kLongest};
  visit.text("name", name, "name of the task");
  visit.integer("length", length, length_range, "symbols of a sequence");
  visit.integers("lengths", lengths, length_range, "lengths of training and validation, drawn uniformly for each example; empty: length");
  visit.integers("test_lengths", test_lengths, length_range, "lengths of the test split, taken in turn; empty: those of training");
  visit.choice("target", target, {"parity", "first_symbol"},
               "parity: is the number of 1s odd; first_symbol: is the first symbol 1, a sanity check that every model should pass");
  visit.choice("form", form, {"symbols", "vector"}, "an example is a sequence of symbols, or one vector of the numbers they stand for");
  visit.integer("nonzero_minimum", nonzero_minimum, count_range, "smallest number of entries that are -1 or 1, where nonzero_maximum > 0");
  visit.integer("nonzero_maximum", nonzero_maximum, count_range,
                "largest number of entries that are -1 or 1, at random places (PonderNet's protocol); 0: symbols are uniform");
  visit.integer("test_nonzero_minimum", test_nonzero_minimum, count_range,
                "nonzero_minimum of the test split, where test_nonzero_maximum > 0");
  visit.integer("test_nonzero_maximum", test_nonzero_maximum, count_range, "nonzero_maximum of the test split; 0: as in training");
  visit.integer("curriculum_from", curriculum_from, count_range,
                "length at step 0; it grows linearly to the drawn length; 0: off. In a vector the entries behind it are 0");
  visit.integer("curriculum_steps", curriculum_steps, {.minimum = 0, .maximum = 1'000'000'000},
                "steps over which the length grows; 0: off");
}

void ParityConfig::validate() const {
  const int64_t shortest = shortest_of(training_lengths());
  check_nonzero("", nonzero_minimum, nonzero_maximum);
  check_nonzero("test_", test_nonzero_minimum, test_nonzero_maximum);
  check_fits("nonzero_maximum", nonzero_maximum, lengths.empty() ? "length" : "lengths", shortest);
  const bool own_test_range = test_nonzero_maximum > 0;
  check_fits(own_test_range ? "test_nonzero_maximum" : "nonzero_maximum", own_test_range ? test_nonzero_maximum : nonzero_maximum,
             test_lengths.empty() ? "the test lengths" : "test_lengths", test_lengths.empty() ? shortest : shortest_of(test_lengths));
  if (form == "vector") {
    const std::vector<int64_t> training = training_lengths();
    const bool equal = shortest == longest_of(training) &&
                       std::all_of(test_lengths.begin(), test_lengths.end(), [&](int64_t one) { return one == shortest; });
    ADATAPE_CHECK(equal, "task parity", "expected one length with form = \"vector\", got lengths ", shortest, " .. ",
                  std::max(longest_of(training), test_lengths.empty() ? 0 : longest_of(test_lengths)));
  }
  ADATAPE_CHECK((curriculum_from > 0) == (curriculum_steps > 0), "task parity",
                "expected curriculum_from and curriculum_steps both 0 or both above 0, got ", curriculum_from, " and ", curriculum_steps);
  ADATAPE_CHECK(curriculum_from <= longest_of(training_lengths()), "task parity",
                "expected curriculum_from <= the longest training length (", longest_of(training_lengths()), "), got ", curriculum_from);
}

InputSpec ParityConfig::input_spec() const {
  InputSpec spec;
  if (form == "vector") {
    spec.kind = InputSpec::Kind::kVectors;
    spec.dimension = longest_of(training_lengths());
    spec.length = 1;
  } else {
    spec.kind = InputSpec::Kind::kSymbols;
    spec.vocabulary = kParitySymbols;
    spec.length = longest_of(training_lengths());
  }
  spec.classes = kParityClasses;
  return spec;
}

ParityTask::ParityTask(const ParityConfig& config) : config_(config) {
  config_.validate();
  training_lengths_ = config_.training_lengths();
  test_lengths_ = config_.test_lengths.empty() ? training_lengths_ : config_.test_lengths;
}

Batch ParityTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, "task parity", "expected a batch size >= 1, got ", batch_size);
  const NonzeroRange nonzero{config_.nonzero_minimum, config_.nonzero_maximum};
  const auto steps = static_cast<uint64_t>(config_.curriculum_steps);
  return make_batch(batch_size, longest_of(training_lengths_), step * static_cast<uint64_t>(batch_size), config_,
                    [&](int64_t i, std::vector<int64_t>& symbols) {
                      CounterRng random(seed, step, kParityTrainingSite, static_cast<uint64_t>(i));
                      int64_t length = training_lengths_[random.below(training_lengths_.size())];
                      if (step < steps && length > config_.curriculum_from) {
                        length = config_.curriculum_from +
                                 static_cast<int64_t>(static_cast<uint64_t>(length - config_.curriculum_from) * step / steps);
                      }
                      append_sequence(random, length, nonzero, symbols);
                    });
}

Batch ParityTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  const int64_t size = held_out_size(split);
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= size && count <= size - first, "task parity",
                "expected held-out examples within 0 .. ", size - 1, ", got ", count, " from ", first);
  const bool test = split == Split::kTest;
  NonzeroRange nonzero{config_.nonzero_minimum, config_.nonzero_maximum};
  if (test && config_.test_nonzero_maximum > 0) nonzero = {config_.test_nonzero_minimum, config_.test_nonzero_maximum};
  return make_batch(count, longest_of(test ? test_lengths_ : training_lengths_), static_cast<uint64_t>(first), config_,
                    [&](int64_t i, std::vector<int64_t>& symbols) {
                      const auto index = static_cast<uint64_t>(first + i);
                      CounterRng random(kParityHeldOutSeed, 0, test ? kParityTestSite : kParityValidationSite, index);
                      const int64_t length =
                          test ? test_lengths_[index % test_lengths_.size()] : training_lengths_[random.below(training_lengths_.size())];
                      append_sequence(random, length, nonzero, symbols);
                    });
}

int64_t ParityTask::held_out_size(Split split) const {
  ADATAPE_CHECK(split != Split::kTrain, "task parity", "expected the validation or test split, got the training split");
  return split == Split::kTest ? kParityTestSize : kParityValidationSize;
}

at::Tensor ParityTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return classification_loss("task parity", logits, batch.labels, kParityClasses);
}

at::Tensor ParityTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return classification_correct("task parity", logits, batch.labels, kParityClasses);
}

std::string ParityTask::covariate_name() const {
  if (test_lengths_.size() > 1) return "length";
  return config_.nonzero_maximum > 0 || config_.test_nonzero_maximum > 0 ? "entries that are not 0" : "number of 1s";
}

at::Tensor ParityTask::example_covariate(const Batch& batch) const {
  if (batch.vectors.defined()) {
    return (covariate_name() == "number of 1s" ? batch.vectors.eq(1) : batch.vectors.ne(0)).sum(1).to(at::kCPU, at::kFloat);
  }
  const at::Tensor symbols = batch.symbols.cpu().contiguous();
  const int64_t* data = symbols.data_ptr<int64_t>();
  const std::string name = covariate_name();
  at::Tensor covariate = at::empty({batch.size()}, at::kFloat);
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t *begin = data + batch.offsets[b], *end = data + batch.offsets[b + 1];
    int64_t count = end - begin;
    if (name != "length") count = name == "number of 1s" ? std::count(begin, end, kOne) : count - std::count(begin, end, kParityZero);
    covariate.data_ptr<float>()[b] = static_cast<float>(count);
  }
  return covariate;
}

std::vector<std::string> ParityTask::class_names() const {
  if (config_.target == "first_symbol") return {"not 1", "1"};
  return {"even", "odd"};
}

std::unique_ptr<TaskConfig> make_parity_config() { return std::make_unique<ParityConfig>(); }

std::unique_ptr<Task> make_parity_task(const TaskConfig& config) {
  const auto* parity = dynamic_cast<const ParityConfig*>(&config);
  ADATAPE_CHECK(parity != nullptr, "task parity", "expected the configuration of task parity, got that of \"", config.name, '"');
  return std::make_unique<ParityTask>(*parity);
}

}  // namespace adatape
