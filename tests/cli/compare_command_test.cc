#include <fstream>

#include "program.h"

namespace adatape {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::content_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Outcome;

class CompareCommandTest : public testing::ProgramTest {
 protected:
  void train(const std::string& folder, const std::string& more = "") const {
    ASSERT_EQ(run("train tiny.toml -q -o " + folder + " --set training.steps=5 " + more).status, 0);
  }
};

TEST_F(CompareCommandTest, TableResultsAndReport) {
  train("runs/one");
  train("runs/two", "--set training.learning_rate=0.02");
  train("runs/three", "--seed 2");
  const Outcome outcome = run("compare runs/*/ --output runs --examples 100");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("model"), HasSubstr("accuracy"), HasSubstr("tape length"), HasSubstr("FLOPs"),
                                    HasSubstr("draws"), HasSubstr("best of 1 to 2 learning rates"), HasSubstr("runs/report.html")));
  EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 6)
      << outcome.output;  // titles, rule, one row, a gap, two files
  EXPECT_TRUE(exists("runs/report.html") && !exists("runs/plotly.min.js") && exists("runs/one/result.json"));
  EXPECT_THAT(content_of(path("runs/frontier.png")), ::testing::StartsWith("\x89PNG"));
  const json results = json::parse(content_of(path("runs/results.json")));
  EXPECT_EQ(results["command"], "adatape compare runs/one/ runs/three/ runs/two/ --output runs --examples 100");
  ASSERT_EQ(results["runs"].size(), 2u);
  EXPECT_EQ(results["runs"][0]["seed"], 1);
  EXPECT_EQ(results["runs"][0]["learning_rates"].size(), 2u);
  EXPECT_EQ(results["runs"][1]["seed"], 2);

  // Again into the same folder, as JSON.
  const Outcome again = run("compare runs/one runs/three --output runs --json");
  EXPECT_EQ(again.errors, "");
  EXPECT_EQ(json::parse(again.output), json::parse(content_of(path("runs/results.json"))));
  json row = json::parse(again.output)["runs"][0];
  row.erase("folder");
  row.erase("learning_rates");
  EXPECT_EQ(row, json::parse(content_of(path("runs/one/result.json"))));
}

TEST_F(CompareCommandTest, PathsMayBeAnyBytes) {
  train("one");
  const Outcome outcome = run("compare one -o 'gro\xdf' --examples 10 --json");
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(json::parse(outcome.output)["command"].get<std::string>(), HasSubstr("gro\xef\xbf\xbd"));
}

TEST_F(CompareCommandTest, FamilyAndSpeed) {
  train("runs/one", "--set goal=0.3 --set 'published=0.5, say'");
  std::ofstream(path("benchmarks.json"))
      << R"([{"name": "halting_saved_act", "ours_ms": 1, "rival": "all_steps", "rival_ms": 2, "ratio": 0.95, "goal": 0.9},
             {"name": "layer_norm_training_32", "ours_ms": 1, "rival": "plain", "rival_ms": 2, "ratio": 2, "goal": 1}])";
  const Outcome outcome = run("compare runs/one --family --speed --benchmarks benchmarks.json -o out --examples 50");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("parity"), HasSubstr("test accuracy"), HasSubstr("30.00 %"), HasSubstr("out/report.html")));
  const json results = json::parse(content_of(path("out/results.json")));
  EXPECT_EQ(results["runs"][0]["goal"], 0.3);
  EXPECT_EQ(results["runs"][0]["published"], "0.5, say");
  EXPECT_EQ(results["runs"][0]["value"], results["runs"][0]["accuracy"]);
  EXPECT_TRUE(results["runs"][0].contains("speed_measured"));
  EXPECT_EQ(results["time_saved"].size(), 1u);
  EXPECT_EQ(results["time_saved"][0]["ratio"], 0.95);
  EXPECT_THAT(content_of(path("out/report.html")), AllOf(HasSubstr("halting_saved_act"), Not(HasSubstr("layer_norm"))));
  EXPECT_THAT(error_of("compare runs/one --benchmarks benchmarks.json -o out"), HasSubstr("--family"));
}

// Labels need only differ within a folder of configurations.
TEST_F(CompareCommandTest, FamilyNamesEachSystemByItsFolder) {
  std::filesystem::create_directories(path("configs/short"));
  std::filesystem::create_directories(path("configs/long"));
  for (const char* folder : {"short", "long"})
    std::filesystem::copy_file(path("tiny.toml"), path(std::string("configs/") + folder + "/tiny.toml"));
  const std::string more = "--set training.steps=5";
  ASSERT_EQ(run("train configs/short/tiny.toml -q -o runs/a " + more).status, 0);
  ASSERT_EQ(run("train configs/long/tiny.toml -q -o runs/b --set task.length=3 " + more).status, 0);
  EXPECT_EQ(run("compare runs/a runs/b --family -o out --examples 50").status, 0);
  const json rows = json::parse(content_of(path("out/results.json")))["runs"];
  EXPECT_EQ(rows[0]["model"], rows[1]["model"]);
  EXPECT_EQ(rows[0]["name"], "short_transformer");
  EXPECT_EQ(rows[1]["name"], "long_transformer");
}

// Before anything is trained.
TEST(Scripts, NamesThatNoConfigurationHasAreErrors) {
  for (const std::string script : {"family", "parity_full"}) {
    const std::string command = "SEEDS=0 ONLY='transformer nonsense' '" ADATAPE_SOURCE_DIR "/scripts/" + script + ".sh' 2>&1";
    FILE* pipe = ::popen(command.c_str(), "r");
    ASSERT_NE(pipe, nullptr);
    std::string said;
    for (int letter = std::fgetc(pipe); letter != EOF; letter = std::fgetc(pipe)) said += static_cast<char>(letter);
    EXPECT_EQ(WEXITSTATUS(::pclose(pipe)), 2) << said;
    EXPECT_THAT(said, AllOf(HasSubstr("got "), HasSubstr("transformer ")));
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  }
}

TEST_F(CompareCommandTest, UnfinishedRunsAreLeftOut) {
  train("one");
  train("two", "--seed 2");
  std::filesystem::remove(path("two/result.json"));
  const Outcome outcome = run("compare one two -o out");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.errors, HasSubstr("adatape: two is left out: it has no result.json"));
  EXPECT_EQ(json::parse(content_of(path("out/results.json")))["runs"].size(), 1u);
  EXPECT_THAT(content_of(path("out/report.html")), HasSubstr("two is left out"));
  EXPECT_THAT(outcome.errors, HasSubstr("go on with it by `adatape train --output two --resume`"));
  EXPECT_THAT(error_of("compare two -o nothing"),
              AllOf(HasSubstr("expected at least one finished run"), HasSubstr("got 1 unfinished; go on with")));
  // Without a checkpoint there is no run to go on with.
  std::filesystem::remove_all(path("two/checkpoints"));
  const Outcome model = run("compare one two -o out");
  EXPECT_EQ(model.status, 0);
  EXPECT_THAT(model.errors, AllOf(HasSubstr("two is left out: it has no result.json and no checkpoint"),
                                  HasSubstr("`adatape evaluate two` measures it")));
  EXPECT_THAT(model.errors, Not(HasSubstr("--resume")));
  EXPECT_FALSE(exists("nothing"));
}

TEST_F(CompareCommandTest, BadInputIsOneLineAndWritesNothing) {
  train("one");
  EXPECT_THAT(error_of("compare one nowhere -o out"), AllOf(HasSubstr("nowhere"), HasSubstr("nothing there")));
  EXPECT_THAT(error_of("compare one tiny.toml -o out"), HasSubstr("found a file"));
  std::filesystem::create_directory(path("logs"));
  EXPECT_THAT(error_of("compare one logs -o out"), HasSubstr("logs: expected a run folder"));
  EXPECT_FALSE(exists("out"));
  EXPECT_THAT(error_of("compare one"), HasSubstr("--output"));
  EXPECT_THAT(error_of("compare -o out"), HasSubstr("RUN"));
  EXPECT_THAT(error_of("compare one -o out --examples 0"), HasSubstr("--examples"));
  EXPECT_THAT(run("compare one -o tiny.toml").errors, HasSubstr("tiny.toml"));
  EXPECT_EQ(run("compare one -o tiny.toml").status, 2);
}

TEST_F(CompareCommandTest, AModelThatCannotBeReadIsSaid) {
  train("one");
  write("one/model.safetensors", "damaged");
  const Outcome outcome = run("compare one -o out");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.errors, HasSubstr("the report has no tape lengths of transformer: safetensors: one/model.safetensors: expected"));
  EXPECT_THAT(outcome.output, HasSubstr("transformer"));
}

TEST_F(CompareCommandTest, HelpHasExamples) {
  EXPECT_THAT(run("compare --help").output, AllOf(HasSubstr("report.html"), HasSubstr("best validation accuracy"), HasSubstr("--examples"),
                                                  HasSubstr("Examples:\n  adatape compare ")));
}

}  // namespace
}  // namespace adatape
