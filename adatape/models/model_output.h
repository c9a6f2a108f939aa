// What a model returns: logits, plus everything that losses, cost and analysis need, so that nobody needs hooks.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace adatape {

class PackLayout;

// An extra loss: the trainer adds weight x mean over examples.
struct AuxiliaryLoss {
  std::string name;
  torch::Tensor values;  // [B], not multiplied by weight
  double weight = 0;
};

// One reading of one reader (contract of the fields: ops/tape_read/tape_read.h).
struct TapeReading {
  int64_t reader = 0;        // index in model.readers
  int64_t before_block = 0;
  torch::Tensor tokens;      // [B, T, D] before the tape MLP
  torch::Tensor weights;     // [B, T, K]
  torch::Tensor indices;     // int64 [B, T, K], row within the example's bank, -1 = not read
  torch::Tensor lengths;     // int64 [B]
  torch::Tensor ponder;      // [B]
  torch::Tensor halting;     // [B, T]
};

// Work of one part of a forward pass for each example: FLOPs = rows x flops_per_row (FLOPs = 2 x multiply-adds).
struct WorkItem {
  std::string part;           // "block 1 / attention projections"
  std::vector<int64_t> rows;  // [B] rows (tokens, or query-key pairs) really computed
  int64_t flops_per_row = 0;
};

struct ModelOutput {
  torch::Tensor logits;                             // [B, classes], or packed [total, vocabulary] with logits_layout
  std::shared_ptr<const PackLayout> logits_layout;  // null: one row an example
  std::vector<torch::Tensor> step_logits;           // logits of each step, for models that combine the losses of steps
  torch::Tensor step_weights;                       // [B, steps] (or [B, steps, tokens]) weights of the steps, 0 after halting
  std::vector<AuxiliaryLoss> auxiliary_losses;
  std::vector<TapeReading> readings;
  std::map<std::string, torch::Tensor> intermediates;  // steps, remainders, halting_probabilities, features ... (ForwardOptions::record)
  // Filled when ForwardOptions::record is set:
  std::vector<WorkItem> work;
  std::vector<std::vector<int64_t>> block_tokens;  // for each block or step that ran: tokens of each example that it computed
};

}  // namespace adatape
