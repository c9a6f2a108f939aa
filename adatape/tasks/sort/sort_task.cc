#include "adatape/tasks/sort/sort_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr uint64_t kSortHeldOutSeed = 0x736f'7274'2121'2121;  // "sort!!!!"

}  // namespace

void SortConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "name of the task");
  visit.integer("numbers_minimum", numbers_minimum, {.minimum = 2, .maximum = 1000}, "numbers of the shortest sequence");
  visit.integer("numbers_maximum", numbers_maximum, {.minimum = 2, .maximum = 1000}, "numbers of the longest sequence");
}

void SortConfig::validate() const {
  ADATAPE_CHECK(numbers_minimum <= numbers_maximum, "task sort", "expected numbers_minimum <= numbers_maximum, got ", numbers_minimum,
                " and ", numbers_maximum);
}

InputSpec SortConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = 2;
  spec.length = 2 * numbers_maximum;
  spec.classes = numbers_maximum;
  spec.answers_each = true;
  return spec;
}

SortTask::SortTask(const SortConfig& config)
    : DrawnTask("task sort", kSortHeldOutSeed, config.input_spec(), config.numbers_maximum), config_(config) {
  config_.validate();
}

void SortTask::draw(CounterRng& random, Split, DrawnExamples& examples) const {
  const int64_t numbers = config_.numbers_minimum +
                          static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.numbers_maximum - config_.numbers_minimum + 1)));
  std::vector<float> values;
  for (int64_t i = 0; i < numbers; ++i) {
    values.push_back(static_cast<float>(random.normal()));
    examples.vectors.push_back(values.back());
    examples.vectors.push_back(i + 1 == numbers ? 1.0f : 0.0f);
    examples.labels.push_back(-1);
  }
  std::vector<int64_t> places(values.size());
  std::iota(places.begin(), places.end(), 0);
  std::stable_sort(places.begin(), places.end(),
                   [&](int64_t a, int64_t b) { return values[static_cast<size_t>(a)] < values[static_cast<size_t>(b)]; });
  examples.vectors.resize(examples.vectors.size() + 2 * values.size(), 0.0f);
  examples.labels.insert(examples.labels.end(), places.begin(), places.end());
  examples.end_example(2 * numbers);
}

at::Tensor SortTask::example_covariate(const Batch& batch) const { return lengths_of(batch) / 2; }

at::Tensor SortTask::element_covariate(const Batch& batch) const {
  at::Tensor numbers = at::empty({batch.offsets.back()}, at::kFloat);
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t begin = batch.offsets[static_cast<size_t>(b)], end = batch.offsets[static_cast<size_t>(b) + 1];
    std::fill(numbers.data_ptr<float>() + begin, numbers.data_ptr<float>() + end, static_cast<float>((end - begin) / 2));
  }
  return numbers;
}

std::vector<std::string> SortTask::class_names() const {
  std::vector<std::string> names;
  for (int64_t i = 0; i < config_.numbers_maximum; ++i) names.push_back("place " + std::to_string(i));
  return names;
}

std::unique_ptr<TaskConfig> make_sort_config() { return std::make_unique<SortConfig>(); }

std::unique_ptr<Task> make_sort_task(const TaskConfig& config) {
  return std::make_unique<SortTask>(configuration_of<SortConfig>(config, "task sort"));
}

}  // namespace adatape
