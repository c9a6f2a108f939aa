// A model's answer as named tensors: what `forward` writes and `verify` compares.
#pragma once

#include "adatape/core/safetensors.h"
#include "adatape/models/model.h"

namespace adatape {

// logits; readings: tape_length int32 [B], tape_indices int32 [B, T, K], tape_weights, tape_tokens, tape_halting [B, T], ponder_loss [B]
// (with several readings each has an axis for the reading after B, padded to the longest T and K, and ponder_loss_total is their sum); the
// auxiliary losses of halting models, NAME_loss [B] or, of a batch as a whole, [1]; all intermediates.
NamedTensors output_tensors(const ModelOutput& output);

// sum(logits * cotangent) + sum over auxiliary losses of weight x mean over examples: what gradients are taken of.
torch::Tensor cotangent_objective(const ModelOutput& output, const torch::Tensor& cotangent);

// Gradients of all parameters after a backward pass, zeros where none arrived.
NamedTensors parameter_gradients(const Model& model);

}  // namespace adatape
