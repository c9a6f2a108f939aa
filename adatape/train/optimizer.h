// AdamW over the parameters of a module.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "adatape/nn/module.h"

namespace adatape {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double clip_norm = 0;  // 0 = off
};

// AdamW (Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2) by torch's fused kernels, one pass over each parameter. Weight decay is
// decoupled and reaches parameters of two or more dimensions only: biases, LayerNorm scales and single tokens keep their scale.
// A parameter without a gradient (unused in this step) keeps its value, its moments and its count of steps.
class AdamW {
 public:
  // Names are those of named_parameters(); the tensors are shared with the module.
  AdamW(const Module& module, AdamWOptions options);

  // Forgets all gradients (undefined, so that the next backward assigns instead of adding).
  void zero_grad();
  // Adds gradients of named_parameters(), in that order; undefined ones are none. The first after zero_grad() are taken, not copied.
  void add_gradients(std::vector<at::Tensor> gradients);
  // The norm of all gradients together, before clipping: float32 scalar on the parameters' device; no synchronisation.
  at::Tensor gradient_norm() const;
  // Scales gradients down to clip_norm and moves the parameters. norm: what gradient_norm() returned.
  void step(double learning_rate, const at::Tensor& norm);
  // Zero moments and counts, as a new optimiser has.
  void reset();

  // "NAME/first_moment", "NAME/second_moment" (shape of the parameter), "NAME/step" (float32 scalar): shared, not copied.
  std::map<std::string, at::Tensor> state() const;
  // Copies a saved state in; Error that names source and tensor for what is missing, surplus, of another shape or not finite.
  void load_state(const std::map<std::string, at::Tensor>& tensors, const std::string& source);

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter, first_moment, second_moment, step;  // step: 0-dim view into steps_
    bool decays;
  };
  std::vector<at::Tensor> gradients() const;

  AdamWOptions options_;
  at::Tensor steps_;  // float32 [parameters]
  std::vector<Slot> slots_;
};

}  // namespace adatape
