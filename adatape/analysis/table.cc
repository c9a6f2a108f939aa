#include "adatape/analysis/table.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"

namespace adatape {
namespace {

std::string accuracy_text(const ComparedModel& model) {
  const std::vector<double> values = over_seeds(model, &FinishedRun::accuracy);
  if (values.size() == 1) return percent_text(values.front());
  return concat(percent_text(mean_of(values)), " (worst ", percent_text(*std::min_element(values.begin(), values.end())), ")");
}

// Mean and deviation over the examples of all seeds.
std::string tape_text(const ComparedModel& model) {
  const std::vector<double> means = over_seeds(model, &FinishedRun::tape_length_mean),
                            deviations = over_seeds(model, &FinishedRun::tape_length_std);
  const double mean = mean_of(means);
  if (mean == 0) return "-";
  double square = 0;
  for (size_t i = 0; i < means.size(); ++i) square += deviations[i] * deviations[i] + (means[i] - mean) * (means[i] - mean);
  return concat(number_text("%.2f", mean), " +- ", number_text("%.2f", std::sqrt(square / static_cast<double>(means.size()))));
}

std::string draws_text(const ComparedModel& model) {
  std::string text;
  for (const SeedRuns& seed : model.seeds) text += (text.empty() ? "" : " ") + std::to_string(seed.chosen->draws);
  return text;
}

std::string seeds_text(const ComparedModel& model) {
  std::string text;
  const int64_t first = model.seeds.front().chosen->seed, last = model.seeds.back().chosen->seed;
  if (model.seeds.size() > 2 && last - first + 1 == static_cast<int64_t>(model.seeds.size())) return concat(first, " to ", last);
  for (const SeedRuns& seed : model.seeds) text += (text.empty() ? "" : " ") + std::to_string(seed.chosen->seed);
  return text;
}

std::string remark_of(const ComparedModel& model) {
  if (model.learning_rates == 1) return "";
  const auto fewest = std::min_element(model.seeds.begin(), model.seeds.end(), [](const SeedRuns& a, const SeedRuns& b) {
                        return a.tried.size() < b.tried.size();
                      })->tried.size();
  const std::string count = fewest == model.learning_rates ? std::to_string(fewest) : concat(fewest, " to ", model.learning_rates);
  return concat("best of ", count, " learning rates",
                model.seeds.size() > 1 ? " for each seed" : concat(" (", number_text("%g", model.first().learning_rate), ")"));
}

}  // namespace

Table table_of(const std::vector<ComparedModel>& models) {
  std::set<std::string> tasks, seeds;
  bool remarks = false;
  for (const ComparedModel& model : models) {
    tasks.insert(model.first().task);
    seeds.insert(seeds_text(model));
    remarks = remarks || model.learning_rates > 1;
  }
  Table table;
  table.rows.resize(models.size());
  const auto column = [&](const std::string& title, const std::string& meaning, bool number,
                          const std::function<std::string(const ComparedModel&)>& cell) {
    table.columns.push_back({title, meaning, number});
    for (size_t i = 0; i < models.size(); ++i) table.rows[i].push_back(cell(models[i]));
  };
  column("model", "The run's label.", false, [](const ComparedModel& model) { return model.name; });
  if (tasks.size() > 1) column("task", "What it was trained on.", false, [](const ComparedModel& model) { return model.first().task; });
  if (seeds.size() > 1 || seeds_text(models.front()) != "1") {
    column("seed", "Seeds of weights and data, all that were given.", true, seeds_text);
  }
  column("accuracy",
         "Share of test examples answered rightly; these examples never stopped or chose a run. Over several seeds: mean and worst.", true,
         accuracy_text);
  const auto number_at = [](const ComparedModel& model, const std::string& name) {
    const nlohmann::ordered_json& result = model.first().result;
    if (name.empty()) return result.value("answer_accuracy", nlohmann::ordered_json());
    return result.contains("described") ? result["described"].value(name, nlohmann::ordered_json()) : nlohmann::ordered_json();
  };
  if (std::any_of(models.begin(), models.end(), [&](const ComparedModel& model) { return number_at(model, "").is_number(); })) {
    column(
        "answers",
        "Share of all answers of the test examples that are right, where an example has several; accuracy wants all of them. First seed.",
        true, [&](const ComparedModel& model) {
          const nlohmann::ordered_json share = number_at(model, "");
          return share.is_number() ? percent_text(share.get<double>()) : std::string("-");
        });
  }
  std::vector<std::string> described;
  for (const ComparedModel& model : models) {
    if (!model.first().result.contains("described")) continue;
    for (const auto& [name, value] : model.first().result["described"].items()) {
      if (std::find(described.begin(), described.end(), name) == described.end()) described.push_back(name);
    }
  }
  for (const std::string& name : described) {
    column(name, "What the task says of the test loss. First seed.", true, [&](const ComparedModel& model) {
      const nlohmann::ordered_json value = number_at(model, name);
      return value.is_number() ? number_text("%.3f", value.get<double>()) : std::string("-");
    });
  }
  column("tape length", "Tape tokens that an example read, mean and standard deviation over examples; - for models without a tape.", true,
         tape_text);
  column("tokens", "Tokens of an example in the longest block, input and tape together, mean over examples.", true,
         [](const ComparedModel& model) { return number_text("%.1f", mean_of(over_seeds(model, &FinishedRun::tokens))); });
  column("FLOPs",
         "Floating-point operations of an example's forward pass (2 x multiply-adds) over the tokens that it really used, bank and reading "
         "included.",
         true, [](const ComparedModel& model) { return count_text(mean_of(over_seeds(model, &FinishedRun::flops))); });
  column("train s", "Seconds spent in training steps, all draws together, without evaluation and saving; median over seeds.", true,
         [](const ComparedModel& model) { return number_text("%.1f", median_of(over_seeds(model, &FinishedRun::training_seconds))); });
  column("draws", "How often the weights were drawn, seed by seed: more than 1 where training began anew after a poor start.", true,
         draws_text);
  column("examples/s", "Examples a second in evaluation, forward passes alone, on the machine and threads of the run; median over seeds.",
         true, [](const ComparedModel& model) { return count_text(median_of(over_seeds(model, &FinishedRun::examples_per_second))); });
  if (remarks)
    column(kChosenColumn,
           "Where several learning rates were tried: the run with the best validation accuracy is shown, at a tie the one with the lowest "
           "loss (never chosen by test accuracy).",
           false, remark_of);
  return table;
}

std::string table_text(const Table& table) {
  std::vector<size_t> widths;
  for (size_t c = 0; c < table.columns.size(); ++c) {
    size_t width = table.columns[c].title.size();
    for (const auto& row : table.rows) width = std::max(width, row[c].size());
    widths.push_back(width);
  }
  std::string text;
  const auto line = [&](const std::function<std::string(size_t)>& cell) {
    std::string one;
    for (size_t c = 0; c < widths.size(); ++c) {
      const std::string content = cell(c), space(widths[c] - content.size(), ' ');
      one += (c == 0 ? "" : "  ") + (table.columns[c].number ? space + content : content + space);
    }
    one.erase(one.find_last_not_of(' ') + 1);
    text += one + "\n";
  };
  line([&](size_t c) { return table.columns[c].title; });
  line([&](size_t c) { return std::string(widths[c], '-'); });
  for (const auto& row : table.rows) line([&](size_t c) { return row[c]; });
  return text;
}

}  // namespace adatape
