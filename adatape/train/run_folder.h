// A run folder: a model that speaks for itself.
//
//   model.safetensors   the best weights on validation data (metadata: version, step)
//   config.toml         resolved and complete
//   run.json            the command, version, seed, device, threads, times
//   metrics.jsonl       one JSON object a line: {"step", "draw", "loss", ...} and {"step", "draw", "validation_accuracy", ...}
//   events.out.tfevents.*  the same for TensorBoard
//   result.json         written at the end: one row of results.json (see analysis/results.h)
//   checkpoints/step_N/ the full state: model.safetensors, optimizer.safetensors, state.json
#pragma once

#include <memory>
#include <string>

#include "adatape/train/run_config.h"

namespace adatape {

struct LoadedRun {
  RunConfig config;
  std::unique_ptr<Task> task;    // null when with_task is false
  std::shared_ptr<Model> model;  // best weights, on the device asked for
  std::string folder;
};

// Opens a run or model folder for use; overrides are "--set" assignments applied to its config.toml (e.g. model.readers.0.threshold=3; keys
// that change a parameter's shape fail with the tensor named, but for the size of images: positions are resampled). Every weight must exist
// with the right shape and be finite. Throws Error.
LoadedRun load_run(const std::string& folder, const std::vector<std::string>& overrides, at::Device device, bool with_task = true);

// Puts tensors into the model: missing, surplus, wrong shape and non-finite tensors are Errors that name file and tensor.
void load_parameters(Model& model, const std::map<std::string, at::Tensor>& tensors, const std::string& source);
std::map<std::string, at::Tensor> parameters_of(const Model& model);

}  // namespace adatape
