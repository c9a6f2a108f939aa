// Evaluation on a held-out split: accuracy, loss, tokens, tape lengths, FLOPs, speed.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "adatape/models/model.h"
#include "adatape/tasks/task.h"
#include "adatape/train/classification_metrics.h"

namespace adatape {

// The examples of one value of the task's covariate (Task::example_covariate).
struct CovariateGroup {
  double value = 0;
  int64_t examples = 0;
  double accuracy = 0;
};

struct EvaluationResult {
  int64_t examples = 0;
  double accuracy = 0;                             // share in [0, 1]; where elements have answers, of examples with all of them right
  std::optional<double> answer_accuracy;           // where elements have answers: share of all answers that are right
  double loss = 0;                                 // mean task loss of an example
  std::map<std::string, double> auxiliary_losses;  // means, unweighted
  std::vector<std::pair<std::string, double>> described;  // Task::describe_loss; empty when quick
  // Mixtures of experts, by block: choices that each expert served, and the share of all choices that none did.
  struct Experts {
    std::string part;
    std::vector<int64_t> served;
    double dropped = 0;
  };
  std::vector<Experts> experts;
  double tokens = 0;                 // mean over examples of the longest block's tokens (input + tape)
  double token_steps = 0;            // mean over examples of tokens summed over all blocks that ran
  std::vector<double> block_tokens;  // the same of each block or step; their sum is token_steps
  std::vector<double> block_flops;   // of `flops`, those of each block or step (parts named "block 1 / ..." or "step 1 / ...")
  double tape_length_mean = 0, tape_length_std = 0;  // tape tokens of an example, all readers; 0 without readers
  std::optional<double> steps;                       // models that halt by depth: mean of the steps that each token or example took
  double flops = 0;                                  // mean forward FLOPs of an example, tokens really used
  double seconds = 0;
  double examples_per_second = 0;            // of a pass without recording
  std::string covariate;                     // its name
  std::vector<CovariateGroup> by_covariate;  // ascending; empty when quick
  ClassificationMetrics classification;      // of one answer an example from labelled classes; without classes when quick or otherwise
};

// quick: accuracy and losses only (validation while training). Otherwise a first pass without recording is timed, and tokens and FLOPs come
// from a second one over at most 10,000 examples. Order and batch size do not change the result beyond rounding.
EvaluationResult evaluate(Model& model, const Task& task, Split split, int64_t examples, int64_t batch_size, at::Device device, bool quick,
                          const std::function<void(int64_t done)>& progress = {});

}  // namespace adatape
