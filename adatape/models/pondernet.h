// PonderNet: one step repeated until a halting probability of its own says stop. Source: arXiv 2107.05407.
//
// After step n the state gives an answer y_n and lambda_n, the probability of halting there; p_n = lambda_n prod_{j < n} (1 - lambda_j),
// what is left at the last step. Training: sum_n p_n L(y_n) + beta KL(p || truncated geometric prior), all steps computed. Evaluation: an
// example halts once its cumulative p exceeds a threshold, or where a draw says so; it leaves the batch and pays for no later step. The
// direction of the divergence is the paper's; several public ports have it reversed. With readers, tape tokens (arXiv 2301.13195) stand in
// front of the first step of a transformer.
#pragma once

#include "adatape/models/tape_front.h"
#include "adatape/nn/recurrent_cell.h"

namespace adatape {

struct PonderNetConfig : EncoderConfig, TapeFrontConfig {
  std::string step = "gru";              // rnn | gru | lstm | mlp (one vector an example) | transformer
  int64_t max_steps = 20;                // N
  int64_t evaluation_steps = 0;          // N outside training; 0: max_steps
  std::string training_steps = "fixed";  // fixed: N for all | mass: until an example's cumulative p exceeds training_mass
  double training_mass = 0.95;
  std::string evaluation = "threshold";  // threshold | sampled
  double halting_threshold = 0.95;
  std::string halting_reads = "after";      // the state after | before the step
  double halting_bias = 0;                  // start of the halting unit's bias
  double prior = 0.2;                       // lambda_p
  std::string truncation = "renormalised";  // renormalised | rest_on_last
  double divergence_weight = 0.01;          // beta
  double tape_ponder_weight = 0.01;

  PonderNetConfig() { name = "pondernet"; }
  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
};

// What the step works on: rows are the examples that are still running.
struct PonderState {
  std::vector<int64_t> lengths;  // tokens of each
  torch::Tensor projected;       // recurrent and mlp steps: the input, projected once, [rows, ...]
  RecurrentState recurrent;
  PackedTokens tokens;  // transformer step
};

// The loop over steps; what a step is, derived classes say (pondernet_steps.h).
class PonderNet : public Model {
 public:
  explicit PonderNet(const PonderNetConfig& config) : config_(config) {}
  // Training: logits are the answers weighted by p, step_logits and step_weights hold all of them. Otherwise logits are the answers at the
  // steps where the examples halted. Recorded: steps int32 [B] taken, p and halting_lambda [B, N], 0 behind them.
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override;
  // Training: sum over steps of p_n x the loss of y_n. Otherwise the loss of the answer given.
  torch::Tensor combine(const ModelOutput& output, const ExampleLoss& loss) const override;
  bool examples_are_independent() const override {
    return config_.moe.examples_are_independent() && config_.TapeFrontConfig::examples_are_independent();
  }

 protected:
  // Readings and their ponder loss go into output.
  virtual PonderState start(const Batch& batch, const ForwardContext& context, ModelOutput& output) const = 0;
  virtual void advance(PonderState& state, const ForwardContext& context, int64_t step) const = 0;
  virtual torch::Tensor halting(const PonderState& state, const ForwardContext& context) const = 0;  // lambda [rows]
  virtual torch::Tensor answer(const PonderState& state, const ForwardContext& context) const = 0;   // [rows, classes]
  // What answer() needs of these rows, and the state of those that stay (RowCompaction::stay).
  virtual PonderState select(const PonderState& state, const std::vector<int64_t>& rows) const = 0;
  virtual void keep(PonderState& state, const std::vector<int64_t>& stay) const = 0;

  PonderNetConfig config_;
};

}  // namespace adatape
