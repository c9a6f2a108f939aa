// In which language is a window of text written? Bytes as symbols, windows of text files.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "adatape/tasks/text_windows.h"

namespace adatape {

struct LanguageIdentificationConfig : TaskConfig {
  std::string path = kFortunes;
  std::string loose_files = "auto";       // auto | each | the one language of all files beside the sub-folders
  std::string skip = "off";               // folders that are passed over: those of Debian's fortunes hold encrypted text (ROT13)
  std::string languages;                  // comma-separated; empty: those found
  int64_t length = 32;                    // bytes of the longest window
  std::optional<int64_t> length_minimum;  // of the shortest; "length"
  int64_t n_gram = 2;

  LanguageIdentificationConfig() { name = "language_identification"; }
  void fields(FieldVisitor& visit) override;
  // Names of the languages, from the folder where none are given.
  void resolve() override;
  void validate() const override;
  InputSpec input_spec() const override;
  std::vector<std::string> names() const;  // of the languages
};

// The text of a language is split as TextWindows does. Each language is equally likely: training examples draw it, held-out example i is
// of language i modulo their number, so that the smallest text says how many there are, and those of larger ones are spread over them.
// Where lengths vary they are uniform in their range; the window begins at the same place whatever its length.
class LanguageIdentificationTask : public Task {
 public:
  explicit LanguageIdentificationTask(const LanguageIdentificationConfig& config);

  InputSpec input_spec() const override { return config_.input_spec(); }
  Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const override;
  Batch held_out_batch(Split split, int64_t first, int64_t count) const override;
  int64_t held_out_size(Split split) const override;
  int64_t epoch_size() const override;
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override;
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override;
  // What n-grams of the languages' training text reach: the language whose n-gram gives the window the fewest bits.
  std::vector<std::pair<std::string, double>> describe_loss(double loss, Split split) const override;
  at::Tensor example_covariate(const Batch& batch) const override;  // float32 [B] on the CPU: length, or the class where all are equal
  std::string covariate_name() const override { return lengths_vary() ? "length" : "class"; }
  std::vector<std::string> symbol_names() const override { return byte_names(); }
  std::vector<std::string> class_names() const override { return config_.names(); }
  std::vector<std::string> notes() const override;

 private:
  struct Window {
    int64_t language, start, length, example;
  };
  bool lengths_vary() const { return shortest() < config_.length; }
  int64_t shortest() const { return config_.length_minimum.value_or(config_.length); }
  int64_t draw_length(CounterRng& random) const;
  std::vector<Window> held_out_windows(Split split, int64_t first, int64_t count) const;
  Batch batch_of(const std::vector<Window>& windows) const;

  LanguageIdentificationConfig config_;
  std::vector<TextWindows> texts_;  // by language
  mutable std::mutex lock_;
  mutable std::map<Split, double> n_gram_accuracy_;  // made when first asked for
};

std::unique_ptr<TaskConfig> make_language_identification_config();
std::unique_ptr<Task> make_language_identification_task(const TaskConfig& config);

}  // namespace adatape
