#include "adatape/tasks/logic/logic_task.h"

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr int64_t kGates = 10, kLogicClasses = 2;
constexpr uint64_t kLogicHeldOutSeed = 0x6c6f'6769'6321'2121;  // "logic!!!"

}  // namespace

void LogicConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "name of the task");
  visit.integer("vectors", vectors, {.minimum = 1, .maximum = 10000}, "vectors of the longest sequence; lengths are drawn from 1 on");
  visit.integer("gates_minimum", gates_minimum, {.minimum = 1, .maximum = 1000}, "gates of the shortest chain");
  visit.integer("gates_maximum", gates_maximum, {.minimum = 1, .maximum = 1000}, "gates of the longest chain");
}

void LogicConfig::validate() const {
  ADATAPE_CHECK(gates_minimum <= gates_maximum, "task logic", "expected gates_minimum <= gates_maximum, got ", gates_minimum, " and ",
                gates_maximum);
}

InputSpec LogicConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = 2 + kGates * gates_maximum;
  spec.length = vectors;
  spec.classes = kLogicClasses;
  spec.answers_each = vectors > 1;
  return spec;
}

bool apply_gate(int64_t gate, bool p, bool q) {
  switch (gate) {
    case 0:
      return !p && !q;
    case 1:
      return !p && q;
    case 2:
      return p && !q;
    case 3:
      return p != q;
    case 4:
      return !p || !q;
    case 5:
      return p && q;
    case 6:
      return p == q;
    case 7:
      return !p || q;
    case 8:
      return p || !q;
    default:
      return p || q;
  }
}

LogicTask::LogicTask(const LogicConfig& config)
    : DrawnTask("task logic", kLogicHeldOutSeed, config.input_spec(), kLogicClasses), config_(config) {
  config_.validate();
}

void LogicTask::draw(CounterRng& random, Split, DrawnExamples& examples) const {
  const auto vectors = 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.vectors)));
  const int64_t dimension = input_spec().dimension;
  bool before = random.below(2) == 1;  // b_{i-1}
  for (int64_t place = 0; place < vectors; ++place) {
    const size_t begin = examples.vectors.size();
    examples.vectors.resize(begin + static_cast<size_t>(dimension), 0.0f);
    float* vector = examples.vectors.data() + begin;
    bool bit = random.below(2) == 1;  // b_i
    if (place == 0) vector[0] = before;
    vector[1] = bit;
    const int64_t gates = config_.gates_minimum +
                          static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.gates_maximum - config_.gates_minimum + 1)));
    for (int64_t i = 0; i < gates; ++i) {
      const auto gate = static_cast<int64_t>(random.below(kGates));
      vector[2 + kGates * i + gate] = 1;
      const bool next = apply_gate(gate, bit, before);
      before = bit;
      bit = next;
    }
    examples.labels.push_back(bit);
    before = bit;
  }
  examples.end_example(vectors);
}

at::Tensor LogicTask::element_covariate(const Batch& batch) const {
  return batch.vectors.narrow(1, 2, batch.vectors.size(1) - 2).sum(1).to(at::kCPU, at::kFloat);
}

at::Tensor LogicTask::example_covariate(const Batch& batch) const {
  return config_.vectors == 1 ? element_covariate(batch) : lengths_of(batch);
}

std::unique_ptr<TaskConfig> make_logic_config() { return std::make_unique<LogicConfig>(); }

std::unique_ptr<Task> make_logic_task(const TaskConfig& config) {
  return std::make_unique<LogicTask>(configuration_of<LogicConfig>(config, "task logic"));
}

}  // namespace adatape
