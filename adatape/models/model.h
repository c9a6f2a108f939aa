// The interface of all models. A model is made from its configuration and the task's InputSpec by models/registry.h.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "adatape/core/batch.h"
#include "adatape/core/config.h"
#include "adatape/models/model_output.h"
#include "adatape/nn/module.h"

namespace adatape {

struct ForwardOptions {
  bool training = false;  // dropout, noise
  bool record = false;    // fill work, block_tokens and intermediates (costs time)
  uint64_t seed = 0;      // with step and Batch::examples: the key of all random draws
  uint64_t step = 0;
  uint64_t draw_step = 0;  // steps since the weights were drawn, for what is annealed: behind step after a restart
};

// The configuration of a model: `[model]` in TOML. Each family derives its own.
struct ModelConfig {
  std::string name;  // registry name
  virtual ~ModelConfig() = default;
  virtual void fields(FieldVisitor& visit) = 0;
  // Puts numbers in the place of "auto" (such as K = floor(T / tau), fixed when the model is made); config.toml holds the result.
  virtual void resolve(const InputSpec& input) { (void)input; }
  // Checks what no single field's range can say (heads divide width, tau <= T ...). Throws Error.
  virtual void validate(const InputSpec& input) const = 0;
};

// The task's loss of each example: logits [B, classes] -> [B].
using ExampleLoss = std::function<torch::Tensor(const torch::Tensor& logits)>;

class Model : public Module {
 public:
  // Draws all parameters anew; equal (seed, draw) give equal bits.
  virtual void initialize(uint64_t seed, uint64_t draw) = 0;
  // May be called from several threads at once, on different batches.
  virtual ModelOutput forward(const Batch& batch, const ForwardOptions& options) = 0;
  // Task loss of each example [B]; models that weigh the losses of steps (PonderNet) override it. Auxiliary losses are not included.
  virtual torch::Tensor combine(const ModelOutput& output, const ExampleLoss& loss) const { return loss(output.logits); }
  // The readers of tapes in the order in which they read; their settings may be changed between forward passes (train/tape_calibration.h).
  virtual std::vector<TapeReader*> tape_readers() { return {}; }
  // False where an auxiliary loss is no mean over examples (such as one of the batch's mean halting): splitting a batch then changes it.
  virtual bool examples_are_independent() const { return true; }
};

}  // namespace adatape
