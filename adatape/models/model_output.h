// What a model returns: logits, plus everything that losses, cost and analysis need, so that nobody needs hooks.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "adatape/nn/forward_context.h"
#include "adatape/nn/tape_reader.h"

namespace adatape {

// A random choice that the forward pass made and whose distribution is to be learnt, though nothing after it can be differentiated by it.
// The trainer adds weight x score_function_loss(task losses, log_density) (train/score_function.h).
struct RandomChoice {
  torch::Tensor log_density;  // [B] of what was drawn, differentiable in the distribution's parameters
  double weight = 0;
};

struct ModelOutput {
  torch::Tensor logits;                             // [B, classes], or packed [total, vocabulary] with logits_layout
  std::shared_ptr<const PackLayout> logits_layout;  // null: one row an example
  std::vector<torch::Tensor> step_logits;           // logits of each step, for models that combine the losses of steps
  torch::Tensor step_weights;                       // [B, steps] (or [B, steps, tokens]) weights of the steps, 0 after halting
  std::vector<AuxiliaryLoss> auxiliary_losses;
  std::vector<RandomChoice> random_choices;
  std::vector<TapeReading> readings;
  std::map<std::string, torch::Tensor> intermediates;  // steps, remainders, halting_probabilities, features ... (ForwardOptions::record)
  // Filled when ForwardOptions::record is set:
  std::vector<WorkItem> work;
  std::vector<ExpertLoad> expert_loads;            // one a block (or step) with experts
  std::vector<std::vector<int64_t>> block_tokens;  // for each block or step that ran: tokens of each example that it computed
};

}  // namespace adatape
