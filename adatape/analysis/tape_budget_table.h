// What a model does at several tape budgets: table and JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "adatape/analysis/table.h"
#include "adatape/train/evaluate.h"
#include "adatape/train/tape_budget.h"

namespace adatape {

struct BudgetResult {
  TapeSetting setting;
  EvaluationResult result;
};

// A row a budget.
Table tape_budget_table(const std::vector<BudgetResult>& results);

// Lines under a table or an evaluation: for each budget the settings as assignments, whether T is beyond training, whether the budget was
// met on the calibration examples. "" for no budgets.
std::string tape_budget_remarks(const std::vector<BudgetResult>& results);

// [{"budget", "threshold_share", "settings": ["model.readers.0.threshold=2.4"], "beyond_training", "met", "calibrated": {...}, "accuracy",
// ...}]
// What to say before results of a setting that is not what was asked for: "tape budget 50 cannot be met: the nearest below is ...".
std::string unmet_budget(const TapeSetting& setting);

nlohmann::ordered_json tape_budgets_json(const std::vector<BudgetResult>& results);

}  // namespace adatape
