#include "adatape/analysis/family.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "adatape/analysis/figures.h"
#include "test_runs.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;
using testing::hand_made_result;
using testing::HandMade;
using ::testing::HasSubstr;
using testing::make_run;
using ::testing::Not;

class FamilyTest : public ::testing::Test {
 protected:
  void add(const HandMade& run, const std::string& task = "parity", const ordered_json& described = {}, const std::string& command = "") {
    const std::string folder = make_run(folder_ / concat("run", folders_.size()), run);
    ordered_json result = hand_made_result(run);
    result["task"] = task;
    if (!described.is_null()) result["described"] = described;
    if (!command.empty()) result["command"] = command;
    write_file_atomically(folder + "/result.json", result.dump());
    folders_.push_back(folder);
  }
  Comparison comparison() const {
    Comparison result = read_family(folders_, "adatape compare");
    result.measurements.resize(result.models.size());
    return result;
  }
  TemporaryFolder folder_;
  std::vector<std::string> folders_;
};

TEST_F(FamilyTest, EachRunHasItsValueGoalAndWhatWasPublished) {
  add({.label = "act", .accuracy = 0.99, .assignments = {"goal=0.98", "published=solved"}});
  add({.label = "plain", .accuracy = 0.53});
  const ordered_json rows = family_results_json(comparison(), {}).at("runs");
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["name"], "act");
  EXPECT_EQ(rows[0]["value"], 0.99);
  EXPECT_EQ(rows[0]["measure"], "test accuracy");
  EXPECT_EQ(rows[0]["goal"], 0.98);
  EXPECT_EQ(rows[0]["published"], "solved");
  EXPECT_TRUE(rows[1]["goal"].is_null());
}

// As scripts/family.sh names them, so that a label may come again in another task.
TEST_F(FamilyTest, ModelsAreNamedByTheFolderOfTheirConfiguration) {
  add({.label = "transformer"}, "graphs", {}, "adatape train configs/graphs/transformer.toml --seed 1 --output runs/a --quiet");
  add({.label = "transformer"}, "nested_arithmetic", {}, "adatape train --seed 1 configs/nested_arithmetic/transformer.toml");
  add({.label = "act_logic"}, "logic", {}, "adatape train configs/act/logic.toml");
  add({.label = "act_rnn"}, "nested_arithmetic", {}, "adatape train configs/nested_arithmetic/act_rnn.toml");
  add({.label = "own"}, "graphs", {}, "adatape train configs/graphs/transformer.toml --set label=own --set model.width=8");
  add({.label = "alone"}, "parity", {}, "adatape train ./alone.toml --output runs/x.toml");
  add({.label = "resumed"}, "parity", {}, "adatape train --output runs/resumed --resume");
  const Comparison runs = comparison();
  std::vector<std::string> names;
  const ordered_json results = family_results_json(runs, {});
  for (const ordered_json& row : results.at("runs")) names.push_back(row["name"]);
  EXPECT_EQ(names, (std::vector<std::string>{"graphs_transformer", "nested_arithmetic_transformer", "act_logic",
                                             "nested_arithmetic_act_rnn", "own", "alone", "resumed"}));
  EXPECT_THAT(family_text(runs), HasSubstr("nested_arithmetic_act_rnn"));
  EXPECT_THAT(family_html(runs, {}), HasSubstr("nested_arithmetic_act_rnn"));
}

TEST_F(FamilyTest, TwoModelsNeverHaveOneName) {
  add({.label = "transformer"}, "graphs", {}, "adatape train a/graphs/transformer.toml");
  add({.label = "transformer", .assignments = {"model.width=16"}}, "graphs", {}, "adatape train b/graphs/transformer.toml");
  const ordered_json rows = family_results_json(comparison(), {}).at("runs");
  EXPECT_EQ(rows[0]["name"], "transformer (run0)");
  EXPECT_EQ(rows[1]["name"], "transformer (run1)");
}

// Every configuration of the lists has the label that makes the name by which ONLY takes it.
TEST_F(FamilyTest, NamesAreThoseOfTheScript) {
  for (const char* list : {"/configs/family.txt", "/configs/family_full.txt"}) {
    std::istringstream lines(read_file(std::string(ADATAPE_SOURCE_DIR) + list));
    std::vector<std::string> expected;
    folders_.clear();
    for (std::string line; std::getline(lines, line);) {
      if (line.empty() || line.front() == '#') continue;
      const std::string path = line.substr(0, line.find(' '));
      const std::string toml = read_file(concat(ADATAPE_SOURCE_DIR, "/", path));
      const size_t begin = toml.find("label = \"") + 9;
      std::string label = toml.substr(begin, toml.find('"', begin) - begin);
      const std::filesystem::path parts(path);
      std::string name = concat(parts.parent_path().filename().string(), "_", parts.stem().string());
      if (const size_t set = line.find("label="); set != std::string::npos)
        name = label = line.substr(set + 6, line.find(' ', set) - set - 6);
      expected.push_back(name);
      const std::string folder = make_run(folder_ / concat(list + 9, folders_.size()), {.label = label});
      ordered_json result = hand_made_result({.label = label});
      result["command"] = "adatape train " + line;
      write_file_atomically(folder + "/result.json", result.dump());
      folders_.push_back(folder);
    }
    std::vector<std::string> names;
    const ordered_json results = family_results_json(comparison(), {});
    for (const ordered_json& row : results.at("runs")) names.push_back(row["name"]);
    std::sort(names.begin(), names.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(names, expected) << list;
  }
}

// What the figure shows, as numbers.
TEST_F(FamilyTest, MeanStepsByCovariate) {
  add({.label = "act"}, "logic");
  add({.label = "plain"}, "logic");
  Comparison runs = comparison();
  runs.measurements[0].usage.ponder_steps = {1, 5, 2};
  runs.measurements[0].usage.ponder_covariates = {7, 3, 7};
  runs.measurements[0].covariate_name = "gates";
  EXPECT_EQ(family_results_json(runs, {}).at("runs")[0].at("ponder_by_covariate"),
            ordered_json::parse(R"({"covariate": "gates", "groups": [{"value": 3.0, "examples": 1, "steps": 5.0},
                                                                   {"value": 7.0, "examples": 2, "steps": 1.5}]})"));
  EXPECT_FALSE(family_results_json(runs, {}).at("runs")[1].contains("ponder_by_covariate"));
  EXPECT_EQ(ponder_by_covariate(runs, {0})["data"][0]["y"], (ordered_json{5.0, 1.5}));
  runs.measurements[0].usage.ponder_by_element = true;
  runs.measurements[0].element_covariate_name = "digits";
  const ordered_json by = family_results_json(runs, {}).at("runs")[0].at("ponder_by_covariate");
  EXPECT_EQ(by["covariate"], "digits");
  EXPECT_EQ(by["groups"][1]["elements"], 2);
  runs.measurements[1].usage.lengths = {4, 2, 6};
  runs.measurements[1].usage.covariates = {3, 3, 7};
  runs.measurements[1].covariate_name = "gates";
  EXPECT_EQ(family_results_json(runs, {}).at("runs")[1].at("tape_by_covariate"),
            ordered_json::parse(R"({"covariate": "gates", "groups": [{"value": 3.0, "examples": 2, "tape_tokens": 3.0},
                                                                   {"value": 7.0, "examples": 1, "tape_tokens": 6.0}]})"));
}

TEST_F(FamilyTest, TextIsJudgedByTheBitsOfItsRival) {
  add({.label = "gpt", .assignments = {"goal=1"}}, "language_modelling",
      {{"bits per byte", 2.0}, {"bits per byte of an order-3 n-gram", 2.5}});
  const RunValue value = run_value(comparison().runs[0]);
  EXPECT_EQ(value.value, 1.25);
  EXPECT_EQ(value.measure, "n-gram's bits / own bits");
  EXPECT_THAT(family_text(comparison()), HasSubstr("1.250"));
  EXPECT_THAT(family_text(comparison()), HasSubstr("reached"));
}

TEST_F(FamilyTest, SeedsAreOneLineWithTheirMeanAndWorst) {
  add({.label = "act", .seed = 1, .accuracy = 0.99, .assignments = {"goal=0.98"}});
  add({.label = "act", .seed = 2, .accuracy = 0.95, .assignments = {"goal=0.98"}});
  const std::string text = family_text(comparison());
  EXPECT_THAT(text, HasSubstr("97.00 % (worst of 2: 95.00 %)"));
  EXPECT_THAT(text, HasSubstr("short"));
}

TEST_F(FamilyTest, ThePageHasASectionATaskAndEscapesWhatComesFromFiles) {
  add({.label = "<act>", .description = "a <b>", .assignments = {"published=x < y"}}, "logic");
  add({.label = "plain"}, "parity");
  const std::string page = family_html(comparison(), {{"halting_saved_act", "all_steps", 4.0, 8.0, 0.97, 0.9, 0.515}});
  for (const char* part :
       {"<h2>logic</h2>", "<h2>parity</h2>", "&lt;act&gt;", "a &lt;b&gt;", "x &lt; y", "halting_saved_act", "0.97", "51.50 %", "50.00 %"})
    EXPECT_THAT(page, HasSubstr(part));
  EXPECT_THAT(page, Not(HasSubstr("<act>")));
  EXPECT_THAT(family_html(comparison(), {}), Not(HasSubstr("Time saved")));
}

// No whole window of text is ever right; what is learnt shows in bits.
TEST_F(FamilyTest, TextHasACurveOfBits) {
  add({.label = "gpt"}, "language_modelling", {{"bits per byte", 2.0}, {"bits per byte of an order-3 n-gram", 2.5}});
  add({.label = "act"}, "parity");
  write_file_atomically(folders_[0] + "/metrics.jsonl", R"({"step":10,"draw":0,"validation_accuracy":0,"validation_loss":0.693147}
{"step":20,"draw":0,"validation_accuracy":0,"validation_loss":0.346574}
)");
  const Comparison runs = comparison();
  const Figure bits = bits_curves(runs, {0});
  EXPECT_EQ(bits["data"][0]["y"], (ordered_json{1.0, 0.5}));
  EXPECT_TRUE(bits_curves(runs, {1})["data"].empty());
  const std::string page = family_html(runs, {});
  const size_t section = page.find("<h2>language_modelling</h2>"), next = page.find("<h2>parity</h2>");
  EXPECT_LT(page.find("Bits per byte of validation windows", section), next);
  EXPECT_GE(page.find("Validation accuracy against steps", section), next);
  EXPECT_EQ(accuracy_curves(runs, {0}, CurveAxis::kSteps)["layout"]["yaxis"]["range"], (ordered_json{-0.02, 1.02}));
}

// Guessing is right in 1 / classes of the cases only where one answer is asked.
TEST_F(FamilyTest, GuessingIsShownWhereOneAnswerIsAsked) {
  add({.label = "act"});
  Comparison runs = comparison();
  runs.measurements[0].class_names = {"even", "odd"};
  EXPECT_EQ(accuracy_curves(runs, {0}, CurveAxis::kSteps)["layout"]["annotations"][0]["text"], "guessing");
  runs.measurements[0].answers_each = true;
  EXPECT_FALSE(accuracy_curves(runs, {0}, CurveAxis::kSteps)["layout"].contains("annotations"));
}

// Of a file of all benchmarks only those are shown that say what halting saves.
TEST_F(FamilyTest, BenchmarksAreReadAsTheyAreWrittenOrNamed) {
  const std::string path = folder_ / "benchmarks.json";
  write_file_atomically(path, R"([
    {"name": "dense_linear", "ours_ms": 1, "rival": "plain", "rival_ms": 2, "ratio": 2, "goal": 1},
    {"name": "halting_saved_a", "ours_ms": 1.5, "rival": "b", "rival_ms": 3, "ratio": 0.8, "goal": 0.9, "flops_saved": 0.625, "time_saved": 0.5},
    {"name": "recurrent_halting/act", "ours_ms": 3, "rival": "b", "rival_ms": 4, "ratio": 0.5, "goal": 0.9}])");
  const std::vector<BenchmarkResult> rows = read_benchmarks(path);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].name, "halting_saved_a");
  EXPECT_EQ(rows[0].ours_ms, 1.5);
  EXPECT_EQ(rows[0].goal, 0.9);
  EXPECT_EQ(rows[0].flops_saved, 0.625);
  EXPECT_EQ(rows[1].flops_saved, 0.5);  // from the ratio, where the file is of an older version
  add({.label = "act"});
  const ordered_json saved = family_results_json(comparison(), rows).at("time_saved");
  ASSERT_EQ(saved.size(), 2u);
  EXPECT_EQ(saved[0]["ratio"], 0.8);
  EXPECT_EQ(saved[0]["time_saved"], 0.5);
  EXPECT_EQ(saved[0]["flops_saved"], 0.625);
  EXPECT_EQ(saved[1]["time_saved"], 0.25);
  write_file_atomically(path, R"([{"name": "a"}])");
  EXPECT_THAT(error_of([&] { read_benchmarks(path); }), HasSubstr("benchmarks.json"));
  write_file_atomically(path, "{");
  EXPECT_THAT(error_of([&] { read_benchmarks(path); }), HasSubstr("expected the list"));
}

}  // namespace
}  // namespace adatape
