// Addition: numbers come one a vector; what is their sum so far? Source: arXiv 1603.08983, section 3.3.
#pragma once

#include <memory>

#include "adatape/tasks/drawn_task.h"

namespace adatape {

struct AdditionConfig : TaskConfig {
  int64_t numbers_minimum = 2, numbers_maximum = 5;  // of a sequence
  int64_t digits = 5;                                // of the longest number; how many are drawn, from 1 on
  std::string order = "highest_first";               // highest_first | lowest_first

  AdditionConfig() { name = "addition"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
};

// A vector holds the digits of a number, one-hot, in `order`, zeros behind the last. Asked at each number but the first are the digits of
// the sum so far: digits + 1 answers of 11 classes, in the same order, class 10 behind the last.
class AdditionTask : public DrawnTask {
 public:
  explicit AdditionTask(const AdditionConfig& config);

  at::Tensor example_covariate(const Batch& batch) const override;  // float32 [B] on the CPU: numbers of the sequence
  std::string covariate_name() const override { return "numbers"; }
  at::Tensor element_covariate(const Batch& batch) const override;  // digits of the number
  std::string element_covariate_name() const override { return "digits"; }
  std::vector<std::string> class_names() const override;

 protected:
  void draw(CounterRng& random, Split split, DrawnExamples& examples) const override;

 private:
  AdditionConfig config_;
};

std::unique_ptr<TaskConfig> make_addition_config();
std::unique_ptr<Task> make_addition_task(const TaskConfig& config);

}  // namespace adatape
