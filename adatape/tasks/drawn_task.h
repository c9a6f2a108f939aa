// What tasks share whose examples are drawn without end: the streams of random numbers, packing, and loss and metric by class.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/tasks/task.h"

namespace adatape {

// Examples on the host, one behind another: an example is written to symbols or vectors and labels, then ended.
struct DrawnExamples {
  std::vector<int64_t> symbols;        // one an element; or
  std::vector<float> vectors;          // InputSpec::dimension numbers an element
  std::vector<int64_t> labels;         // one an example, or of each element in turn; -1: nothing asked
  std::vector<int64_t> offsets = {0};  // elements
  void end_example(int64_t elements) { offsets.push_back(offsets.back() + elements); }
};

// Example i of training step s is a function of (seed, s, i) alone, so batches of different size agree on their common part. Held-out
// examples are drawn with a fixed seed of the task at sites of their own, never from a training stream.
class DrawnTask : public Task {
 public:
  InputSpec input_spec() const override { return spec_; }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override;  // validation 100,000, test 1,000,000
  int64_t epoch_size() const override { return 0; }
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;

 protected:
  // component: who speaks in errors ("task logic"). classes: of one answer; InputSpec::classes is a multiple of it where an element has
  // several answers.
  DrawnTask(std::string component, uint64_t held_out_seed, const InputSpec& spec, int64_t classes)
      : component_(std::move(component)), held_out_seed_(held_out_seed), spec_(spec), classes_(classes) {}
  // Appends one example of a split.
  virtual void draw(CounterRng& random, Split split, DrawnExamples& examples) const = 0;

  static at::Tensor lengths_of(const Batch& batch);  // elements of each example: float32 [B] on the CPU

  std::string component_;

 private:
  Batch to_batch(const DrawnExamples& drawn, uint64_t first_example) const;

  uint64_t held_out_seed_;
  InputSpec spec_;
  int64_t classes_;
};

// The configuration as a task's own; Error where it is another's.
template <class Config>
const Config& configuration_of(const TaskConfig& config, const std::string& component) {
  const auto* own = dynamic_cast<const Config*>(&config);
  ADATAPE_CHECK(own != nullptr, component, "expected the configuration of ", component, ", got that of \"", config.name, '"');
  return *own;
}

}  // namespace adatape
