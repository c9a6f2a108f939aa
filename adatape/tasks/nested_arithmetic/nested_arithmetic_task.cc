#include "adatape/tasks/nested_arithmetic/nested_arithmetic_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr int64_t kMin = 10, kMax = 11, kMedian = 12, kSum = 13, kEnd = 14, kNestedArithmeticSymbols = 15, kNestedArithmeticClasses = 10;
constexpr int64_t kOperations = 4;
constexpr uint64_t kNestedArithmeticHeldOutSeed = 0x6172'6974'686d'6574;  // "arithmet"

}  // namespace

void NestedArithmeticConfig::fields(FieldVisitor& visit) {
  const IntegerRange depths{.minimum = 1, .maximum = 64};
  visit.text("name", name, "name of the task");
  visit.integer("depth_minimum", depth_minimum, depths, "brackets within brackets of the shallowest expressions");
  visit.integer("depth_maximum", depth_maximum, depths, "of the deepest ones");
  visit.integer("test_depth_minimum", test_depth_minimum, depths, "depth_minimum of the test split");
  visit.integer("test_depth_maximum", test_depth_maximum, depths, "depth_maximum of the test split");
  visit.integer("arguments", arguments, {.minimum = 2, .maximum = 16}, "most arguments of an operator; how many is drawn, from 2 on");
  visit.real("branching", branching, {0, 1}, "chance that an argument beside the deepest one is an expression too");
  visit.integer("longest", longest, {.minimum = 4, .maximum = 100'000}, "symbols of the longest expression: longer ones are drawn anew");
}

void NestedArithmeticConfig::validate() const {
  ADATAPE_CHECK(depth_minimum <= depth_maximum, "task nested_arithmetic", "expected depth_minimum <= depth_maximum, got ", depth_minimum,
                " and ", depth_maximum);
  ADATAPE_CHECK(test_depth_minimum <= test_depth_maximum, "task nested_arithmetic",
                "expected test_depth_minimum <= test_depth_maximum, got ", test_depth_minimum, " and ", test_depth_maximum);
  // The mean length must fit with room to spare, or drawing anew would take for ever: an operator of `arguments` digits has two more
  // symbols.
  double lengths = 0, sum = 0;
  const double others = (2.0 + static_cast<double>(arguments)) / 2 - 1;  // arguments beside the deepest one, on average
  for (int64_t depth = 1; depth <= std::max(depth_maximum, test_depth_maximum); ++depth) {
    const double other = depth == 1 ? 1 : 1 - branching + branching * sum / static_cast<double>(depth - 1);
    lengths = 2 + (depth == 1 ? 1 : lengths) + others * other;
    sum += lengths;
  }
  ADATAPE_CHECK(lengths <= static_cast<double>(longest), "task nested_arithmetic",
                "expected longest to hold expressions of the deepest kind, of ", static_cast<int64_t>(lengths) + 1,
                " symbols on average, got ", longest, "; raise it or lower branching, arguments or the depths");
}

InputSpec NestedArithmeticConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = kNestedArithmeticSymbols;
  spec.length = longest;
  spec.classes = kNestedArithmeticClasses;
  return spec;
}

int64_t value_of(int64_t operation, std::vector<int64_t> arguments) {
  std::sort(arguments.begin(), arguments.end());
  const size_t count = arguments.size();
  if (operation == kMin) return arguments.front();
  if (operation == kMax) return arguments.back();
  if (operation == kMedian) return (arguments[(count - 1) / 2] + arguments[count / 2]) / 2;
  return std::accumulate(arguments.begin(), arguments.end(), int64_t{0}) % 10;
}

NestedArithmeticTask::NestedArithmeticTask(const NestedArithmeticConfig& config)
    : DrawnTask("task nested_arithmetic", kNestedArithmeticHeldOutSeed, config.input_spec(), kNestedArithmeticClasses), config_(config) {
  config_.validate();
}

int64_t NestedArithmeticTask::append(CounterRng& random, int64_t depth, std::vector<int64_t>& symbols) const {
  if (depth == 0) {
    symbols.push_back(static_cast<int64_t>(random.below(10)));
    return symbols.back();
  }
  const int64_t operation = kMin + static_cast<int64_t>(random.below(kOperations));
  const auto count = 2 + static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.arguments - 1)));
  const auto deepest = static_cast<int64_t>(random.below(static_cast<uint64_t>(count)));
  symbols.push_back(operation);
  std::vector<int64_t> values;
  for (int64_t i = 0; i < count; ++i) {
    int64_t inner = depth - 1;
    if (i != deepest && inner > 0) {
      inner = random.uniform() < config_.branching ? 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(inner))) : 0;
    }
    values.push_back(append(random, inner, symbols));
  }
  symbols.push_back(kEnd);
  return value_of(operation, std::move(values));
}

void NestedArithmeticTask::draw(CounterRng& random, Split split, DrawnExamples& examples) const {
  const bool test = split == Split::kTest;
  const int64_t least = test ? config_.test_depth_minimum : config_.depth_minimum,
                most = test ? config_.test_depth_maximum : config_.depth_maximum;
  const int64_t depth = least + static_cast<int64_t>(random.below(static_cast<uint64_t>(most - least + 1)));
  std::vector<int64_t> symbols;
  int64_t value = 0;
  do {
    symbols.clear();
    value = append(random, depth, symbols);
  } while (static_cast<int64_t>(symbols.size()) > config_.longest);
  examples.symbols.insert(examples.symbols.end(), symbols.begin(), symbols.end());
  examples.labels.push_back(value);
  examples.end_example(static_cast<int64_t>(symbols.size()));
}

at::Tensor NestedArithmeticTask::example_covariate(const Batch& batch) const {
  const at::Tensor symbols = batch.symbols.cpu().contiguous();
  at::Tensor depths = at::empty({batch.size()}, at::kFloat);
  for (int64_t b = 0; b < batch.size(); ++b) {
    int64_t depth = 0, deepest = 0;
    for (int64_t i = batch.offsets[static_cast<size_t>(b)]; i < batch.offsets[static_cast<size_t>(b) + 1]; ++i) {
      const int64_t symbol = symbols.const_data_ptr<int64_t>()[i];
      if (symbol >= kMin && symbol < kEnd) deepest = std::max(deepest, ++depth);
      if (symbol == kEnd) --depth;
    }
    depths.data_ptr<float>()[b] = static_cast<float>(deepest);
  }
  return depths;
}

std::vector<std::string> NestedArithmeticTask::symbol_names() const {
  std::vector<std::string> names = class_names();
  names.insert(names.end(), {"[min", "[max", "[median", "[sum", "]"});
  return names;
}

std::unique_ptr<TaskConfig> make_nested_arithmetic_config() { return std::make_unique<NestedArithmeticConfig>(); }

std::unique_ptr<Task> make_nested_arithmetic_task(const TaskConfig& config) {
  return std::make_unique<NestedArithmeticTask>(configuration_of<NestedArithmeticConfig>(config, "task nested_arithmetic"));
}

}  // namespace adatape
