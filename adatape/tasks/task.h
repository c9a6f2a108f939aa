// The interface of all tasks: examples by split, a loss and a metric for each example.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "adatape/core/batch.h"
#include "adatape/core/config.h"

namespace adatape {

enum class Split { kTrain, kValidation, kTest };

// `[task]` in TOML. Each task derives its own.
struct TaskConfig {
  std::string name;  // registry name
  virtual ~TaskConfig() = default;
  virtual void fields(FieldVisitor& visit) = 0;
  // Puts values in the place of "auto", before validate(); config.toml holds the result. May look at which files there are.
  virtual void resolve() {}
  virtual void validate() const = 0;         // what no single field's range can say; throws Error
  virtual InputSpec input_spec() const = 0;  // known from the resolved configuration alone, without opening data
  // Text <-> symbols, for `adatape generate`; Error where the task has no text, or the text something that is no symbol.
  virtual std::vector<int64_t> read_text(const std::string& text) const;
  virtual std::string write_text(const std::vector<int64_t>& symbols) const;
  virtual int64_t start_symbol() const { return 0; }  // what a decoder reads first
  virtual int64_t stop_symbol() const { return -1; }  // what ends an answer; -1: nothing
  // Whether later elements of a sequence hold what is asked at an element: only a causal model has then something to learn.
  virtual bool answers_follow() const { return false; }
  // Which key to change where a model reads one sequence and the task gives two, or the other way round; "" where no key does.
  virtual std::string sequences_hint() const { return ""; }
};

class Task {
 public:
  virtual ~Task() = default;
  virtual InputSpec input_spec() const = 0;

  // The training batch of a step: a function of (seed, step, batch_size) alone, callable from several threads at once. `examples`
  // identifies each (epoch, index) or drawn example, so random draws of the model differ between epochs.
  virtual Batch training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const = 0;
  // Examples first .. first + count - 1 of a held-out split, always the same ones (independent of the training seed). Thread-safe.
  virtual Batch held_out_batch(Split split, int64_t first, int64_t count) const = 0;
  // Where settings of a trained model are found (train/tape_calibration.h): examples on which nothing is reported. Validation, or where
  // that is the test too the training examples, which held_out_batch then shows as it shows others, without augmentation.
  virtual Split calibration_split() const { return Split::kValidation; }
  // How many held-out examples there are.
  virtual int64_t held_out_size(Split split) const = 0;
  // Training examples in an epoch, for reports; 0 where they are drawn without end.
  virtual int64_t epoch_size() const = 0;

  // logits [B, classes], or packed [total, classes] where InputSpec::answers_each -> loss of each example [B] (differentiable); correct ->
  // bool [B], where elements have answers whether all of the example's are right.
  virtual at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const = 0;
  virtual at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const = 0;

  // Where the thing to be recognised lies in the images of held_out_batch(split, first, count): int64 [count, 4] on the CPU, top, left,
  // height, width in pixels. Undefined where the task does not know.
  virtual at::Tensor held_out_boxes(Split split, int64_t first, int64_t count) const {
    (void)split, (void)first, (void)count;
    return {};
  }

  // What the mean loss on a split says in the task's own words, and what a simple rival reaches there (language modelling: bits per byte,
  // and an n-gram's): names and values.
  virtual std::vector<std::pair<std::string, double>> describe_loss(double loss, Split split) const {
    (void)loss, (void)split;
    return {};
  }

  // A number for each example that analysis plots tape lengths against (parity: how many 1s; images: the class), and what it is called.
  virtual at::Tensor example_covariate(const Batch& batch) const = 0;
  virtual std::string covariate_name() const = 0;
  // The same for each element of a sequence, [total], where elements differ in how hard they are (gates of a chain); undefined: they do
  // not, and analysis takes the example's number.
  virtual at::Tensor element_covariate(const Batch& batch) const;
  virtual std::string element_covariate_name() const { return covariate_name(); }
  // What the symbols or classes are called ("-1", "0", "1"; "T-shirt/top" ...).
  virtual std::vector<std::string> symbol_names() const { return {}; }
  virtual std::vector<std::string> class_names() const = 0;
  // What a person should know about the data, a line each: how splits were made, what was passed over so far.
  virtual std::vector<std::string> notes() const { return {}; }
};

struct TaskEntry {
  std::string name;
  std::string summary;
  std::unique_ptr<TaskConfig> (*make_config)();
  std::unique_ptr<Task> (*make_task)(const TaskConfig& config);
};
const std::vector<TaskEntry>& task_registry();
const TaskEntry& find_task(const std::string& name);

}  // namespace adatape
