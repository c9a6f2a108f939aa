// Parity: sequences over {-1, 0, 1}, is the number of 1s odd? Drawn without end, so no example repeats.
//
// Sources: AdaTape (arXiv 2301.13195, section 4.1): uniform symbols. PonderNet (arXiv 2107.05407, section 3.1): a drawn number of entries
// is -1 or 1, the rest 0 (nonzero_minimum, nonzero_maximum); training and test may differ in it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "adatape/tasks/task.h"

namespace adatape {

struct ParityConfig : TaskConfig {
  int64_t length = 32;
  std::vector<int64_t> lengths;       // training and validation; empty: {length}
  std::vector<int64_t> test_lengths;  // empty: as in training
  // "first_symbol" asks whether the first symbol is 1, on the same sequences: a sanity check, since models that stay at chance on parity
  // (a plain transformer) solve it at once when they are wired correctly.
  std::string target = "parity";
  // "vector": an example is one vector of `length` numbers -1, 0, 1, as ACT and PonderNet have it, instead of as many symbols.
  std::string form = "symbols";
  int64_t nonzero_minimum = 0, nonzero_maximum = 0;
  int64_t test_nonzero_minimum = 0, test_nonzero_maximum = 0;
  int64_t curriculum_from = 0, curriculum_steps = 0;

  ParityConfig() { name = "parity"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;

  std::vector<int64_t> training_lengths() const { return lengths.empty() ? std::vector<int64_t>{length} : lengths; }
};

// Example i of training step s is a function of (seed, s, i) alone, so batches of different size agree on their common part. Validation
// follows the training distribution (without the curriculum), test its own settings; both are drawn with fixed seeds at their own sites,
// never from a training stream. Symbol ids 0, 1, 2 stand for -1, 0, 1.
class ParityTask : public Task {
 public:
  explicit ParityTask(const ParityConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override;
  int64_t epoch_size() const override { return 0; }
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  // float32 [B] on the CPU, what covariate_name says: the length where the test has several, else the number of entries that are not 0
  // where that is set, else the number of 1s.
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override;
  std::vector<std::string> symbol_names() const override { return {"-1", "0", "1"}; }
  std::vector<std::string> class_names() const override;

 private:
  ParityConfig config_;
  std::vector<int64_t> training_lengths_, test_lengths_;
};

std::unique_ptr<TaskConfig> make_parity_config();
std::unique_ptr<Task> make_parity_task(const TaskConfig& config);

}  // namespace adatape
