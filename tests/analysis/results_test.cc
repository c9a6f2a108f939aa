#include "adatape/analysis/results.h"

#include "test_runs.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using testing::hand_made_result;
using testing::HandMade;
using ::testing::HasSubstr;
using testing::make_run;

std::vector<std::string> names_of(const std::vector<ComparedModel>& models) {
  std::vector<std::string> names;
  for (const ComparedModel& model : models) names.push_back(model.name);
  return names;
}

TEST(Gather, ValidationChoosesTheLearningRateForEachSeed) {
  const TemporaryFolder folder;
  // At seed 1 the best test accuracy is elsewhere; at seed 2 two rates tie and the lower one wins, though it comes later.
  const RunFolders read = read_run_folders({
      make_run(folder / "a", {.learning_rate = 0.001, .accuracy = 0.9, .validation_accuracy = 0.5}),
      make_run(folder / "b", {.learning_rate = 0.003, .accuracy = 0.6, .validation_accuracy = 0.7}),
      make_run(folder / "c", {.learning_rate = 0.0003, .accuracy = 0.7, .validation_accuracy = 0.6}),
      make_run(folder / "d", {.seed = 2, .learning_rate = 0.003, .accuracy = 0.55, .validation_accuracy = 0.6}),
      make_run(folder / "e", {.seed = 2, .learning_rate = 0.001, .accuracy = 0.45, .validation_accuracy = 0.6}),
  });
  const std::vector<ComparedModel> models = gather(read.finished);
  ASSERT_EQ(models.size(), 1u);
  ASSERT_EQ(models[0].seeds.size(), 2u);
  EXPECT_EQ(models[0].learning_rates, 3u);
  EXPECT_EQ(models[0].seeds[0].chosen->learning_rate, 0.003);
  EXPECT_EQ(models[0].seeds[1].chosen->learning_rate, 0.001);

  const nlohmann::ordered_json results = results_json(models, "adatape compare");
  EXPECT_EQ(results["command"], "adatape compare");
  ASSERT_EQ(results["runs"].size(), 2u);
  const nlohmann::ordered_json& row = results["runs"][0];
  EXPECT_EQ(row["accuracy"], 0.6);
  EXPECT_EQ(row["folder"], folder / "b");
  ASSERT_EQ(row["learning_rates"].size(), 3u);
  EXPECT_EQ(row["learning_rates"][2], (nlohmann::ordered_json{{"learning_rate", 0.003}, {"validation_accuracy", 0.7}, {"accuracy", 0.6}}));
  const nlohmann::ordered_json written = hand_made_result({.learning_rate = 0.003, .accuracy = 0.6, .validation_accuracy = 0.7});
  for (const auto& [key, value] : written.items()) EXPECT_EQ(row[key], value) << key;
}

// Whole windows of text are never right: loss decides, as it does in training.
TEST(Gather, LossDecidesBetweenEqualAccuracies) {
  const TemporaryFolder folder;
  const auto run = [&](const std::string& name, double rate, double loss) {
    const HandMade made = {.learning_rate = rate, .validation_accuracy = 0};
    make_run(folder / name, made);
    nlohmann::ordered_json result = hand_made_result(made);
    result["validation_loss"] = loss;
    write_file_atomically(folder / (name + "/result.json"), result.dump());
    return folder / name;
  };
  const RunFolders read = read_run_folders({run("a", 0.0001, 5.5), run("b", 0.001, 3.2), run("c", 0.01, 4)});
  const std::vector<ComparedModel> models = gather(read.finished);
  EXPECT_EQ(models[0].first().learning_rate, 0.001);
  EXPECT_EQ(results_json(models, "")["runs"][0]["learning_rates"][0]["validation_loss"], 5.5);

  // A result.json of an older version: metrics.jsonl has it.
  nlohmann::ordered_json older = hand_made_result({.learning_rate = 0.01, .validation_accuracy = 0});
  older["best_step"] = 20;
  write_file_atomically(folder / "c/result.json", older.dump());
  write_file_atomically(folder / "c/metrics.jsonl", R"({"step":10,"draw":0,"validation_accuracy":0,"validation_loss":4}
{"step":20,"draw":0,"validation_accuracy":0,"validation_loss":1.5}
)");
  const RunFolders again = read_run_folders({folder / "a", folder / "b", folder / "c"});
  EXPECT_EQ(gather(again.finished)[0].first().learning_rate, 0.01);
  EXPECT_EQ(again.finished[2].validation_loss, 1.5);
}

TEST(Gather, NaNIsNeverChosen) {
  const TemporaryFolder folder;
  make_run(folder / "a", {.learning_rate = 0.001});
  nlohmann::ordered_json result = hand_made_result({.learning_rate = 0.001});
  result["validation_accuracy"] = nullptr;
  write_file_atomically(folder / "a/result.json", result.dump());
  const RunFolders read = read_run_folders({folder / "a", make_run(folder / "b", {.learning_rate = 0.003, .validation_accuracy = 0.1})});
  EXPECT_EQ(gather(read.finished)[0].first().learning_rate, 0.003);
}

TEST(Gather, OrdersByRoleThenAsGiven) {
  const TemporaryFolder folder;
  const RunFolders read =
      read_run_folders({make_run(folder / "1", {.label = "control_sorted"}), make_run(folder / "2", {.label = "transformer"}),
                        make_run(folder / "3", {.label = "adatape_paper"}), make_run(folder / "4", {.label = "deep"}),
                        make_run(folder / "5", {.label = "adatape"})});
  EXPECT_THAT(names_of(gather(read.finished)), ElementsAre("adatape_paper", "adatape", "transformer", "deep", "control_sorted"));
}

TEST(Gather, RunsThatDifferOtherwiseStayApart) {
  const TemporaryFolder folder;
  const RunFolders read =
      read_run_folders({make_run(folder / "wide", {.assignments = {"model.width=32"}}), make_run(folder / "narrow/", {}),
                        make_run(folder / "again", {}), make_run(folder / "seed", {.seed = 2})});
  const std::vector<ComparedModel> models = gather(read.finished);
  EXPECT_THAT(names_of(models), ElementsAre("transformer (wide)", "transformer (narrow)", "transformer (again)"));
  EXPECT_EQ(models[1].seeds.size(), 2u);
  for (const ComparedModel& model : models) EXPECT_EQ(model.learning_rates, 1u);
}

TEST(ReadRunFolders, NamesWhatIsNoRun) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { read_run_folders({folder / "none"}); }), AllOf(HasSubstr(folder / "none"), HasSubstr("found nothing there")));
  write_file_atomically(folder / "file", "x");
  EXPECT_THAT(error_of([&] { read_run_folders({folder / "file"}); }), HasSubstr("found a file"));
  make_directories(folder / "other");
  EXPECT_THAT(error_of([&] { read_run_folders({folder / "other"}); }), HasSubstr("it has no config.toml, so it is not a run"));

  const std::string run = make_run(folder / "run", {});
  EXPECT_EQ(read_run_folders({run, run + "/", folder / "other/../run"}).finished.size(), 1u);
  const auto with = [&](const std::string& result) {
    write_file_atomically(run + "/result.json", result);
    return error_of([&] { read_run_folders({run}); });
  };
  nlohmann::ordered_json result = hand_made_result({});
  EXPECT_EQ(with(result.dump()), "no error");
  EXPECT_THAT(with(result.dump().substr(0, 50)), HasSubstr("result.json: expected one JSON object"));
  EXPECT_THAT(with("[]"), HasSubstr("result.json: expected one JSON object"));
  result.erase("accuracy");
  EXPECT_THAT(with(result.dump()), HasSubstr("expected the key \"accuracy\""));
  result["accuracy"] = "high";
  EXPECT_THAT(with(result.dump()), HasSubstr("accuracy: expected a number, got \"high\""));
  result["accuracy"] = 1;
  result["draw_history"] = {1, 2};
  EXPECT_THAT(with(result.dump()), HasSubstr("draw_history: expected a list of objects"));
  write_file_atomically(run + "/config.toml", "labl = 1");
  EXPECT_THAT(with(hand_made_result({}).dump()), HasSubstr(run + "/config.toml: task.name: expected one of"));
}

TEST(ReadRunFolders, TellsUnfinishedRuns) {
  const TemporaryFolder folder;
  const std::string run = make_run(folder / "run", {});
  std::filesystem::remove(run + "/result.json");
  const RunFolders read = read_run_folders({run});
  EXPECT_TRUE(read.finished.empty());
  EXPECT_THAT(read.unfinished, ElementsAre(run));
}

}  // namespace
}  // namespace adatape
