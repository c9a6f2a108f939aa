// The losses of a batch and their gradient, by threads that share each operator or that have examples of their own.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "adatape/models/model.h"
#include "adatape/tasks/task.h"
#include "adatape/train/run_config.h"

namespace adatape {

// What an auxiliary loss is called in logs: NAME_loss, but for counts (of steps, choices or tokens), which are no part of the loss: their
// name.
std::string auxiliary_key(const std::string& name);

// Puts shares in the place of a mixture of experts' counts, where there are any: dropped_share of the choices, unserved_share of the
// tokens.
void counts_to_shares(std::map<std::string, double>& numbers);

struct BatchGradients {
  // "loss" (the whole objective), "task_loss" and auxiliary_key of auxiliary losses, where there are any: scalars, means over the batch x
  // share.
  std::vector<std::pair<std::string, at::Tensor>> losses;
  std::vector<at::Tensor> gradients;  // of model.named_parameters(), in that order; undefined where the loss does not use one
};

// Of the objective's mean over the batch, times share (a micro-batch's part of its step).
// parts > 1: so many runs of examples, side by side on as many threads, each with operators on one thread; sums are in the order of the
// parts. A loss over the batch (one that is no mean over examples) is then a loss over each part. CPU only.
// products: kBFloat16 on CUDA for the forward pass and the losses (nn/mixed_precision.h).
BatchGradients gradients_of(Model& model, const Task& task, const Batch& batch, const ForwardOptions& options, double share,
                            int64_t parts = 1, at::ScalarType products = at::kFloat);

// How many parts training.parallel asks for, for a (micro-)batch of so many examples on this device. "auto": a part for each thread where
// that pays: on the CPU, with a model whose parameters are few beside the work, and examples that do not depend on each other.
int64_t parallel_parts(const TrainingConfig& config, const Model& model, int64_t examples, at::Device device);

}  // namespace adatape
