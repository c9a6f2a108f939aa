// Figures of a comparison as plotly.js takes them: {"data": [...], "layout": {...}}.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "adatape/analysis/comparison.h"

namespace adatape {

using Figure = nlohmann::ordered_json;
using ModelIndices = std::vector<size_t>;  // into Comparison::models

// Four digits after the leading one: enough for a picture, short in a file. null where it is not finite.
nlohmann::ordered_json short_number(double value);

// Layout that all figures share: system fonts, thin grid, titles of both axes.
nlohmann::ordered_json base_layout(const std::string& x_title, const std::string& y_title, int height);

// A colour of its own for each model, the same in all figures.
std::string model_colour(size_t model);

enum class CurveAxis { kSteps, kSeconds };

// A line a run and draw, broken where the weights were drawn anew (a cross ends the abandoned draw). Runs that were not chosen are pale.
Figure accuracy_curves(const Comparison& comparison, const ModelIndices& models, CurveAxis axis);
// Validation loss of the same in bits, of models of text; empty data without any.
Figure bits_curves(const Comparison& comparison, const ModelIndices& models);
Figure loss_curves(const Comparison& comparison, const ModelIndices& models);

// Share of the examples by tape length; empty data where no model has readers. So has tape_by_covariate: mean and standard deviation of the
// length against the task's covariate.
Figure tape_histogram(const Comparison& comparison, const ModelIndices& models);
Figure tape_by_covariate(const Comparison& comparison, const ModelIndices& models);

// Steps of models that halt against how hard the task says an example, or an element of a sequence, is: means and standard deviations.
Figure ponder_by_covariate(const Comparison& comparison, const ModelIndices& models);

// Steps of models that halt element by element against the place in the sequence: means and standard deviations. Without traces where none
// does.
Figure ponder_by_position(const Comparison& comparison, const ModelIndices& models);

// Accuracy against the mean tape length at each budget that was measured (ModelMeasurement::budgets), a line a model.
Figure budget_curves(const Comparison& comparison, const ModelIndices& models);

// Test accuracy against the task's covariate, as each model's first seed wrote it down; runs of older versions have none.
Figure accuracy_by_covariate_figure(const Comparison& comparison, const ModelIndices& models);

// Of mixtures of experts: the share of a block's choices that each expert served, a bar an expert, as each model's first seed wrote it
// down.
Figure expert_loads(const Comparison& comparison, const ModelIndices& models);

// A bar a part of the forward pass.
Figure cost_bars(const std::vector<PartCost>& parts);

}  // namespace adatape
