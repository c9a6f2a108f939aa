// Copying, reversing and adding decimal numbers, drawn without end; tested on longer ones than trained on. Source: arXiv 1807.03819,
// section 3.2 (the algorithmic tasks).
#pragma once

#include <memory>

#include "adatape/tasks/task.h"

namespace adatape {

struct AlgorithmicConfig : TaskConfig {
  std::string operation = "reverse";   // copy | reverse | addition
  std::string form = "decoder";        // decoder | each
  std::string places = "sequence";     // sequence | digits; digits needs form = each
  int64_t shortest = 1, longest = 10;  // digits, drawn uniformly
  int64_t curriculum_steps = 0;        // training steps over which the longest number grows from shortest to longest
  std::vector<int64_t> test_lengths;   // taken in turn; empty: as in training

  AlgorithmicConfig() { name = "algorithmic"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
  std::vector<int64_t> read_text(const std::string& text) const override;
  std::string write_text(const std::vector<int64_t>& symbols) const override;
  int64_t start_symbol() const override;
  int64_t stop_symbol() const override;
  std::string sequences_hint() const override { return "task.form = \"each\" gives one, \"decoder\" gives two"; }
};

// Symbols: 0 starts an answer, 1 ends a question or an answer, 2 .. 11 are the digits, 12 is the plus sign, 13 a blank. The question is n
// digits, or n + n digits with the plus sign between them.
//
//   decoder  an encoder reads the question and 1, a decoder 0 and the answer so far; its answers are the digits of the result and 1
//   each     one sequence: the question, 0, and a blank for each digit of the result, where it is asked; a sum has n + 1 digits, with zeros
//            in front
//
// With places = "digits" a digit or blank has two places, counted within its number from the front and from the back (after Abacus
// embeddings, arXiv 2405.17399), whatever the lengths; other symbols have none.
class AlgorithmicTask : public Task {
 public:
  explicit AlgorithmicTask(const AlgorithmicConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override;
  int64_t epoch_size() const override { return 0; }
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_covariate(const Batch& batch) const override;  // digits of the number, or of each of the two
  std::string covariate_name() const override { return "digits"; }
  std::vector<std::string> symbol_names() const override;
  std::vector<std::string> class_names() const override { return symbol_names(); }

 private:
  AlgorithmicConfig config_;
};

// The digits of the answer to a question of digits (0 .. 9; of two numbers one after the other for addition).
std::vector<int64_t> algorithmic_answer(const std::string& operation, const std::vector<int64_t>& digits, bool zeros_in_front);

std::unique_ptr<TaskConfig> make_algorithmic_config();
std::unique_ptr<Task> make_algorithmic_task(const TaskConfig& config);

}  // namespace adatape
