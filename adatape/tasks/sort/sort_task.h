// Sort: real numbers come one a vector; then name them from the smallest to the largest. Source: arXiv 1603.08983, section 3.4.
#pragma once

#include <memory>

#include "adatape/tasks/drawn_task.h"

namespace adatape {

struct SortConfig : TaskConfig {
  int64_t numbers_minimum = 2, numbers_maximum = 15;

  SortConfig() { name = "sort"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
};

// N numbers from N(0, 1), then N vectors of zeros; a vector holds the number and a flag that is 1 at the last one. Asked at the zeros: the
// place (0 .. N - 1) at which the smallest number came, the next, and so on.
class SortTask : public DrawnTask {
 public:
  explicit SortTask(const SortConfig& config);

  at::Tensor example_covariate(const Batch& batch) const override;  // float32 [B] on the CPU: numbers
  std::string covariate_name() const override { return "numbers"; }
  at::Tensor element_covariate(const Batch& batch) const override;  // numbers of the sequence
  std::string element_covariate_name() const override { return "numbers"; }
  std::vector<std::string> class_names() const override;

 protected:
  void draw(CounterRng& random, Split split, DrawnExamples& examples) const override;

 private:
  SortConfig config_;
};

std::unique_ptr<TaskConfig> make_sort_config();
std::unique_ptr<Task> make_sort_task(const TaskConfig& config);

}  // namespace adatape
