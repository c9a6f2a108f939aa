// An exponential moving average of the weights while they train.
#pragma once

#include "adatape/core/safetensors.h"
#include "adatape/models/model.h"

namespace adatape {

// Copies of the model's weights, to begin an average with.
NamedTensors begin_average(const Model& model);

// average <- d average + (1 - d) weights, with d = min(decay, (1 + step) / (10 + step)), step = 0 at the first one: early weights, which
// are still random, fade at once (as TensorFlow's ExponentialMovingAverage does with num_updates).
void update_average(NamedTensors& average, const Model& model, double decay, int64_t step);

// Puts an average into the model for as long as this lives, then the model's own weights back. Does nothing for an empty average.
class AveragedModel {
 public:
  AveragedModel(Model& model, NamedTensors& average);
  ~AveragedModel();
  AveragedModel(const AveragedModel&) = delete;
  AveragedModel& operator=(const AveragedModel&) = delete;

 private:
  void swap();
  Model& model_;
  NamedTensors& average_;
};

}  // namespace adatape
