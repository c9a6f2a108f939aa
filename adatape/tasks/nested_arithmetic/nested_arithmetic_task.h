// Nested arithmetic: [max 4 [sum 9 3] 7], which digit is it? Like ListOps (arXiv 1804.06028), with expressions drawn by their depth.
#pragma once

#include <memory>

#include "adatape/tasks/drawn_task.h"

namespace adatape {

struct NestedArithmeticConfig : TaskConfig {
  int64_t depth_minimum = 1, depth_maximum = 4;            // brackets within brackets, of training and validation
  int64_t test_depth_minimum = 1, test_depth_maximum = 8;  // of the test split
  int64_t arguments = 4;                                   // of an operator at most; how many are drawn, from 2 on
  double branching = 0.2;                                  // chance that an argument beside the deepest one is an expression too
  int64_t longest = 128;                                   // symbols of an expression: longer ones are drawn anew

  NestedArithmeticConfig() { name = "nested_arithmetic"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
};

// Symbols: 0 .. 9 the digits, 10 .. 13 "[min", "[max", "[median", "[sum" (sum modulo 10; median of an even count: the mean of the middle
// two, rounded down), 14 "]". Depth is uniform in its range; one argument, at a drawn place, is as deep as that asks.
class NestedArithmeticTask : public DrawnTask {
 public:
  explicit NestedArithmeticTask(const NestedArithmeticConfig& config);

  at::Tensor example_covariate(const Batch& batch) const override;  // float32 [B] on the CPU: depth
  std::string covariate_name() const override { return "depth"; }
  std::vector<std::string> symbol_names() const override;
  std::vector<std::string> class_names() const override { return {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}; }

 protected:
  void draw(CounterRng& random, Split split, DrawnExamples& examples) const override;

 private:
  // Appends an expression of exactly this depth and returns its value.
  int64_t append(CounterRng& random, int64_t depth, std::vector<int64_t>& symbols) const;

  NestedArithmeticConfig config_;
};

// The value of an operator (10 .. 13) of digits.
int64_t value_of(int64_t operation, std::vector<int64_t> arguments);

std::unique_ptr<TaskConfig> make_nested_arithmetic_config();
std::unique_ptr<Task> make_nested_arithmetic_task(const TaskConfig& config);

}  // namespace adatape
