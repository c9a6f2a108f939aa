#include "adatape/analysis/tape_budget_table.h"

#include <functional>
#include <nlohmann/json.hpp>

#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"

namespace adatape {
namespace {

std::string settings_text(const TapeSetting& setting) {
  std::string text;
  for (const std::string& assignment : tape_setting_assignments(setting)) text += (text.empty() ? "" : " ") + ("--set " + assignment);
  return text;
}

std::string reached_text(const TapeSetting& setting) {
  return setting.budget.share_of_flops ? percent_text(setting.flops_share) + " of the FLOPs of full tapes"
                                       : number_text("%.3f", setting.tape_tokens) + " tape tokens";
}

}  // namespace

Table tape_budget_table(const std::vector<BudgetResult>& results) {
  Table table;
  table.rows.resize(results.size());
  const auto column = [&](const std::string& title, const std::string& meaning, bool number,
                          const std::function<std::string(const BudgetResult&)>& cell) {
    table.columns.push_back({title, meaning, number});
    for (size_t i = 0; i < results.size(); ++i) table.rows[i].push_back(cell(results[i]));
  };
  column("budget", "What was asked for: mean tape tokens, or a share of the FLOPs of full tapes.", true,
         [](const BudgetResult& one) { return one.setting.budget.text; });
  column("threshold / T", "The halting threshold as a share of the longest tape, one for all readers.", true,
         [](const BudgetResult& one) { return number_text("%.3f", one.setting.share); });
  column("tape length", "Tape tokens that an example read, mean and standard deviation over the examples.", true,
         [](const BudgetResult& one) {
           return concat(number_text("%.2f", one.result.tape_length_mean), " +- ", number_text("%.2f", one.result.tape_length_std));
         });
  column("tokens", "Tokens of an example in the longest block, mean over examples.", true,
         [](const BudgetResult& one) { return number_text("%.1f", one.result.tokens); });
  column("FLOPs", "Floating-point operations of an example's forward pass, mean over examples.", true,
         [](const BudgetResult& one) { return format_count(one.result.flops); });
  column("of full tapes", "The FLOPs as a share of those with full tapes, the model's own T.", true, [](const BudgetResult& one) {
    return number_text("%.1f %%", 100 * one.result.flops / (one.setting.flops / one.setting.flops_share));
  });
  column("accuracy", "Share of the examples answered rightly.", true,
         [](const BudgetResult& one) { return percent_text(one.result.accuracy); });
  column("examples/s", "Examples a second, forward passes alone.", true,
         [](const BudgetResult& one) { return format_count(one.result.examples_per_second); });
  column("", "Remark.", false, [](const BudgetResult& one) {
    return concat(one.setting.beyond_training ? "beyond training" : "", one.setting.beyond_training && !one.setting.met ? ", " : "",
                  one.setting.met ? "" : "nearest below");
  });
  return table;
}

std::string tape_budget_remarks(const std::vector<BudgetResult>& results) {
  std::string text;
  for (const auto& [setting, result] : results) {
    text += concat("  budget ", setting.budget.text, ": ", reached_text(setting), " on ", setting.examples, ' ', setting.split,
                   " examples by ", settings_text(setting));
    if (setting.beyond_training) text += "; this T is beyond training";
    if (!setting.met) text += "; the budget cannot be met, this is the nearest below it";
    text += "\n";
  }
  return text;
}

std::string unmet_budget(const TapeSetting& setting) {
  return concat("tape budget ", setting.budget.text, " cannot be met; what follows is the nearest below it, ", reached_text(setting));
}

nlohmann::ordered_json tape_budgets_json(const std::vector<BudgetResult>& results) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const auto& [setting, result] : results) {
    rows.push_back({{"budget", setting.budget.text},
                    {"threshold_share", setting.share},
                    {"settings", tape_setting_assignments(setting)},
                    {"beyond_training", setting.beyond_training},
                    {"met", setting.met},
                    {"calibrated",
                     {{"split", setting.split},
                      {"examples", setting.examples},
                      {"tape_tokens", setting.tape_tokens},
                      {"flops", setting.flops},
                      {"share_of_full_flops", setting.flops_share}}},
                    {"accuracy", result.accuracy},
                    {"loss", result.loss},
                    {"tape_length_mean", result.tape_length_mean},
                    {"tape_length_std", result.tape_length_std},
                    {"tokens", result.tokens},
                    {"flops", result.flops},
                    {"examples_per_second", result.examples_per_second}});
  }
  return rows;
}

}  // namespace adatape
