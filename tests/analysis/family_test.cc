#include "adatape/analysis/family.h"

#include "adatape/analysis/figures.h"
#include "test_runs.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;
using testing::error_of;
using testing::hand_made_result;
using testing::HandMade;
using ::testing::HasSubstr;
using testing::make_run;
using ::testing::Not;
using testing::TemporaryFolder;

class FamilyTest : public ::testing::Test {
 protected:
  void add(const HandMade& run, const std::string& task = "parity", const ordered_json& described = {}) {
    const std::string folder = make_run(folder_ / concat("run", folders_.size()), run);
    ordered_json result = hand_made_result(run);
    result["task"] = task;
    if (!described.is_null()) result["described"] = described;
    write_file_atomically(folder + "/result.json", result.dump());
    folders_.push_back(folder);
  }
  Comparison comparison() const {
    Comparison result = read_comparison(folders_, "adatape compare");
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
  const std::string page = family_html(comparison(), {{"halting_saved_act", "all_steps", 4.0, 8.0, 0.97, 0.9}});
  for (const char* part : {"<h2>logic</h2>", "<h2>parity</h2>", "&lt;act&gt;", "a &lt;b&gt;", "x &lt; y", "halting_saved_act", "0.97"})
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

TEST_F(FamilyTest, BenchmarksAreReadAsTheyAreWrittenOrNamed) {
  const std::string path = folder_ / "benchmarks.json";
  write_file_atomically(path, R"([{"name": "a", "ours_ms": 1.5, "rival": "b", "rival_ms": 3, "ratio": 2, "goal": 0.9}])");
  const std::vector<BenchmarkResult> rows = read_benchmarks(path);
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].name, "a");
  EXPECT_EQ(rows[0].ours_ms, 1.5);
  EXPECT_EQ(rows[0].goal, 0.9);
  add({.label = "act"});
  EXPECT_EQ(family_results_json(comparison(), rows).at("time_saved")[0]["ratio"], 2.0);
  write_file_atomically(path, R"([{"name": "a"}])");
  EXPECT_THAT(error_of([&] { read_benchmarks(path); }), HasSubstr("benchmarks.json"));
  write_file_atomically(path, "{");
  EXPECT_THAT(error_of([&] { read_benchmarks(path); }), HasSubstr("expected the list"));
}

}  // namespace
}  // namespace adatape
