// The numbers of a run over its steps, read back from metrics.jsonl.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

struct CurvePoint {
  int64_t step = 0, draw = 0;
  double seconds = 0;  // training seconds so far
  double value = 0;
};

struct Curves {
  std::vector<CurvePoint> validation_accuracy, validation_loss, training_loss;
};

// Empty curves where the folder has no metrics.jsonl; Error that names file and line where a line is not what a run writes.
Curves read_curves(const std::string& folder);

// At most `count` points, evenly chosen, first and last of every draw kept.
std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points, size_t count);

}  // namespace adatape
