// What a model with tapes reads over a whole data set: where, how much, of which examples.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "adatape/analysis/bank_grid.h"
#include "adatape/analysis/tape_usage.h"

namespace adatape {

struct ReaderSurvey {
  int64_t reader = 0;
  std::string bank;
  std::optional<BankGrid> grid;      // nullopt: rows have no place in an image
  std::vector<double> read, weight;  // of each bank row: share of the examples that read it, and mean of its weight (0 where not read)
  std::vector<std::vector<double>> by_class;  // [classes][rows]: share of the class's examples that read it; empty rows without examples
};

struct ReadingSurvey {
  int64_t examples = 0;
  std::vector<std::string> class_names;
  // Of each example: tape tokens of all readers, task loss, probability of the true class less the largest other one, classes.
  std::vector<double> lengths, losses, margins;
  std::vector<int64_t> labels, answers;
  std::vector<ReaderSurvey> readers;
  ObjectShare on_object;                        // without examples where the task has no boxes or no bank a place
  std::vector<ShownExample> shortest, longest;  // by tape length, the lower index at a tie
};

// Runs the model on the first `examples` test examples; keeps `shown` shortest and longest. Error for models without readers or with other
// outputs than one class an example. progress(done) is called between batches and may throw.
ReadingSurvey survey_readings(const LoadedRun& run, at::Device device, int64_t examples, int64_t shown,
                              const std::function<void(int64_t done)>& progress = {});

}  // namespace adatape
