// Accuracy against what it costs: which models no other one beats?
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/chart.h"
#include "adatape/analysis/comparison.h"
#include "adatape/analysis/figures.h"
#include "adatape/analysis/page.h"

namespace adatape {

// What a model's accuracy is set against.
struct CostAxis {
  double FinishedRun::*value;
  std::string title;
  bool more_is_better = false;  // speed; otherwise less is
};

// Mean and standard deviation over the seeds of a model (deviation 0 with one seed).
struct FrontierPoint {
  size_t model = 0;
  double cost = 0, cost_deviation = 0;
  double accuracy = 0, accuracy_deviation = 0;
  bool on_frontier = false;  // no model is at least as good in both and better in one
};

// Of the models that are no controls and whose numbers are finite, ordered by cost.
std::vector<FrontierPoint> frontier_points(const Comparison& comparison, const CostAxis& axis);

// A point a model with bars of one deviation over seeds, faint points for the seeds, and the line through the frontier. Controls are hollow
// and not on it. The axis is logarithmic where the costs span more than a factor of 20.
Figure accuracy_against(const Comparison& comparison, const CostAxis& axis);

// The same as a picture, but for the seeds: a line of the list below it for each model.
Chart frontier_chart(const Comparison& comparison, const CostAxis& axis);

// Accuracy against the speed of forward passes.
CostAxis speed_axis(const Comparison& comparison);

// The section of the report: speed, FLOPs, tokens.
void add_frontiers(Page& page, const Comparison& comparison);

}  // namespace adatape
