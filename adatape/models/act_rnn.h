// A recurrent network that ponders: at each element of a sequence its cell is applied until a halting unit stops it.
// Source: arXiv 1603.08983. The same cell repeated a fixed number of times is the baseline (arXiv 1803.08165).
#pragma once

#include "adatape/models/model.h"
#include "adatape/nn/recurrent_cell.h"

namespace adatape {

struct ActRnnConfig : ModelConfig {
  std::string cell = "rnn";     // rnn | gru | lstm
  int64_t width = 128;          // of the state
  std::string halting = "act";  // act | fixed: max_steps times at every element, no halting unit
  int64_t max_steps = 10;       // most steps at an element
  double epsilon = 0.01;        // an element is done when its probabilities sum to 1 - epsilon or more
  double halting_bias = 1;      // start of the halting unit's bias
  double ponder_weight = 1e-3;  // tau: the loss gets tau x (steps + remainder), summed over elements

  ActRnnConfig() { name = "act_rnn"; }
  void fields(FieldVisitor& visit) override;
  void validate(const InputSpec& input) const override;
};

// The cell reads [x, flag], flag 1 at the first step on an element and 0 after. State and output of an element are the means over its
// steps, weighted with the step probabilities; the output is linear, so it is taken once, of the mean state. An element that is done leaves
// the batch of later steps. Symbols enter one-hot. Logits: of the last element's state [B, classes] (an example without elements: of the
// zero state), or packed [total, classes] where the task wants answers_each. Recorded, for elements [total] or [B, L] where all sequences
// are equally long: steps, remainders, and with an axis of max_steps behind step_weights and halting_probabilities; outputs (answers_each);
// final_state [B, S], final_cell.
class ActRnn : public Model {
 public:
  ActRnn(const ActRnnConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;

 private:
  struct Pondering;
  RecurrentState ponder(const torch::Tensor& projected, RecurrentState state, Pondering& pondering) const;

  ActRnnConfig config_;
  InputSpec input_;
  std::shared_ptr<RecurrentCell> cell_;
  std::shared_ptr<Linear> halting_;  // [1, S]; null: fixed
  std::shared_ptr<Linear> output_;   // [classes, S]
};

}  // namespace adatape
