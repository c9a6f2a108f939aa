#include "adatape/tasks/addition/addition_task.h"

#include <algorithm>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr int64_t kNoDigit = 10, kAdditionClasses = 11;
constexpr uint64_t kAdditionHeldOutSeed = 0x6164'6469'7469'6f6e;  // "addition"

// Lowest first; 0 has one digit.
std::vector<int64_t> digits_of(int64_t number) {
  std::vector<int64_t> digits;
  do {
    digits.push_back(number % 10);
    number /= 10;
  } while (number > 0);
  return digits;
}

}  // namespace

void AdditionConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "name of the task");
  visit.integer("numbers_minimum", numbers_minimum, {.minimum = 2, .maximum = 9}, "numbers of the shortest sequence");
  visit.integer("numbers_maximum", numbers_maximum, {.minimum = 2, .maximum = 9}, "numbers of the longest sequence");
  visit.integer("digits", digits, {.minimum = 1, .maximum = 15}, "digits of the longest number; how many a number has is drawn, from 1 on");
  visit.choice("order", order, {"highest_first", "lowest_first"}, "the digit that a vector, and an answer, begins with");
}

void AdditionConfig::validate() const {
  ADATAPE_CHECK(numbers_minimum <= numbers_maximum, "task addition", "expected numbers_minimum <= numbers_maximum, got ", numbers_minimum,
                " and ", numbers_maximum);
}

InputSpec AdditionConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = 10 * digits;
  spec.length = numbers_maximum;
  spec.classes = kAdditionClasses * (digits + 1);
  spec.answers_each = true;
  return spec;
}

AdditionTask::AdditionTask(const AdditionConfig& config)
    : DrawnTask("task addition", kAdditionHeldOutSeed, config.input_spec(), kAdditionClasses), config_(config) {
  config_.validate();
}

void AdditionTask::draw(CounterRng& random, Split, DrawnExamples& examples) const {
  const int64_t numbers = config_.numbers_minimum +
                          static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.numbers_maximum - config_.numbers_minimum + 1)));
  const auto in_order = [&](std::vector<int64_t> digits) {
    if (config_.order == "highest_first") std::reverse(digits.begin(), digits.end());
    return digits;
  };
  int64_t sum = 0;
  for (int64_t place = 0; place < numbers; ++place) {
    const auto length = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.digits)));
    int64_t lowest = 1;
    for (int64_t i = 1; i < length; ++i) lowest *= 10;
    if (length == 1) lowest = 0;
    const int64_t end = length == 1 ? 10 : 10 * lowest;
    const int64_t number = lowest + static_cast<int64_t>(random.below(static_cast<uint64_t>(end - lowest)));
    sum += number;
    const size_t begin = examples.vectors.size();
    examples.vectors.resize(begin + static_cast<size_t>(10 * config_.digits), 0.0f);
    const std::vector<int64_t> digits = in_order(digits_of(number));
    for (size_t i = 0; i < digits.size(); ++i) examples.vectors[begin + 10 * i + static_cast<size_t>(digits[i])] = 1;

    std::vector<int64_t> answers = place == 0 ? std::vector<int64_t>{} : in_order(digits_of(sum));
    answers.resize(static_cast<size_t>(config_.digits + 1), place == 0 ? -1 : kNoDigit);
    examples.labels.insert(examples.labels.end(), answers.begin(), answers.end());
  }
  examples.end_example(numbers);
}

at::Tensor AdditionTask::example_covariate(const Batch& batch) const { return lengths_of(batch); }

at::Tensor AdditionTask::element_covariate(const Batch& batch) const { return batch.vectors.sum(1).to(at::kCPU, at::kFloat); }

std::vector<std::string> AdditionTask::class_names() const { return {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "none"}; }

std::unique_ptr<TaskConfig> make_addition_config() { return std::make_unique<AdditionConfig>(); }

std::unique_ptr<Task> make_addition_task(const TaskConfig& config) {
  return std::make_unique<AdditionTask>(configuration_of<AdditionConfig>(config, "task addition"));
}

}  // namespace adatape
