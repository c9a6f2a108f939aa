// Byte-level language modelling on any text: which byte comes next? Reported in bits per byte, beside an n-gram's on the same windows.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include "adatape/tasks/language_modelling/n_gram.h"
#include "adatape/tasks/text_windows.h"

namespace adatape {

struct LanguageModellingConfig : TaskConfig {
  std::string path = kFortunes;
  int64_t context = 128;  // bytes that are read, and predicted, in an example
  int64_t prefix = 0;     // > 0: an encoder reads so many of them, a decoder answers from there on (arXiv 1910.10683, section 3.2.1)
  int64_t vocabulary = 256;
  int64_t n_gram = 3;

  LanguageModellingConfig() { name = "language_modelling"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
  std::vector<int64_t> read_text(const std::string& text) const override;
  std::string write_text(const std::vector<int64_t>& symbols) const override;
  bool answers_follow() const override { return true; }
  std::string sequences_hint() const override { return "task.prefix = 0 gives one, 1 or more gives two"; }
};

// All files end to end are one text, split as TextWindows does. An example is a window of context + 1 bytes: the first `context` are its
// symbols, the last `context` the answers; with a prefix the encoder reads that, and the decoder 0 and all but the last of the other bytes,
// which are the answers.
class LanguageModellingTask : public Task {
 public:
  explicit LanguageModellingTask(const LanguageModellingConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override { return static_cast<int64_t>(windows_.held_out(split).size()); }
  int64_t epoch_size() const override { return windows_.training_bytes() / config_.context; }
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  std::vector<std::pair<std::string, double>> describe_loss(double loss, Split split) const override;
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override { return "length"; }
  std::vector<std::string> symbol_names() const override { return byte_names(); }
  std::vector<std::string> class_names() const override { return symbol_names(); }

 private:
  Batch batch_of(const std::vector<int64_t>& starts, const std::vector<int64_t>& examples) const;
  LanguageModellingConfig config_;
  TextWindows windows_;
  mutable std::mutex lock_;
  mutable std::map<Split, double> n_gram_bits_;  // made when first asked for
};

std::unique_ptr<TaskConfig> make_language_modelling_config();
std::unique_ptr<Task> make_language_modelling_task(const TaskConfig& config);

}  // namespace adatape
