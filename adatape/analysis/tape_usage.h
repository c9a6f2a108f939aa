// What a model does on held-out examples: how long their tapes are, what is read in which order, how long it ponders, what it costs.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "adatape/analysis/bank_grid.h"
#include "adatape/analysis/cost.h"
#include "adatape/data/picture.h"
#include "adatape/train/run_folder.h"

namespace adatape {

struct TapeFrontConfig;

// One step of a reading: one tape token.
struct ReadingStep {
  std::vector<int64_t> rows;    // rows of the bank, the largest weight first
  std::vector<double> weights;  // of these rows, their sum is 1
  double halting = 0;           // sum of the largest weights of this step and those before it
};

// One reader on one example.
struct ExampleReading {
  int64_t reader = 0, before_block = 0, bank_rows = 0;
  std::string bank;
  bool learnable = false;             // rows are learned vectors, not places of the input
  int64_t patch = 0, resolution = 0;  // bank of an image: side of a patch, and of the picture it is cut from (0: the image as it is)
  std::optional<double> threshold;    // none: this reader does not halt by a threshold
  int64_t longest = 0;                // T
  std::vector<ReadingStep> steps;
};

// What example b of a batch read; symbols: the length of its sequence (0 for an image).
ExampleReading example_reading(const TapeReading& reading, int64_t b, const TapeFrontConfig& config, const InputSpec& spec,
                               int64_t symbols);

struct ShownExample {
  int64_t index = 0;             // in the test split
  std::vector<int64_t> symbols;  // of a sequence; where it is one of vectors, their places
  Picture picture;               // as the model saw it; without pixels for sequences
  int64_t label = 0, answer = 0;
  double covariate = 0;
  std::vector<ExampleReading> readings;
};

struct TapeUsage {
  int64_t examples = 0;
  bool has_readers = false;
  std::vector<double> lengths;     // tape tokens of each example, all readers; empty without readers
  std::vector<double> covariates;  // Task::example_covariate of each example
  // Models that halt: steps taken, of each element of a sequence where the task says how hard each is (ponder_by_element), else of each
  // example (its mean over tokens); and that difficulty, Task::element_covariate or example_covariate. Empty for others.
  std::vector<double> ponder_steps, ponder_covariates;
  bool ponder_by_element = false;
  // Steps of elements by their place in the sequence, whatever stands there (tokens that are no elements have none): mean and standard
  // deviation over the examples that are as long. Empty where a sequence halts as a whole.
  struct PositionSteps {
    int64_t examples = 0;
    double sum = 0, squares = 0;
    double mean() const { return sum / static_cast<double>(examples); }
    double deviation() const { return std::sqrt(std::max(0.0, squares / static_cast<double>(examples) - mean() * mean())); }
  };
  std::vector<PositionSteps> ponder_positions;
  std::vector<ShownExample> shown;
  std::vector<PartCost> cost;
  ObjectShare on_object;  // of image banks, where the task knows where the thing to be recognised lies; else without examples
};

// Example b of a batch whose first one is number `first` of its split, by a model with readers.
ShownExample shown_example(const LoadedRun& run, const ModelOutput& output, const Batch& batch, int64_t b, int64_t first, double covariate);

// Runs the model on the first `examples` test examples. Kept for showing: the first `shown` ones, and the first that the model gets wrong
// if there is one among the rest (only for models with readers). Models that neither read nor halt take at most kCostExamples, for the cost
// alone.
// progress is called between batches and may throw.
inline constexpr int64_t kCostExamples = 500;
TapeUsage measure_tape_usage(const LoadedRun& run, at::Device device, int64_t examples, int64_t shown,
                             const std::function<void()>& progress = {});

}  // namespace adatape
