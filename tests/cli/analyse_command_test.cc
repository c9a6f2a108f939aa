#include "adatape/analysis/report.h"
#include "program.h"

namespace adatape {
namespace {

using testing::content_of;
using ::testing::HasSubstr;
using testing::Outcome;

class AnalyseCommandTest : public testing::ProgramTest {};

TEST_F(AnalyseCommandTest, WritesAPageAndData) {
  const std::string settings =
      "--set model.name=adatape --set task.length=12 --set model.readers.0.before_block=0 --set model.readers.0.max_tape_tokens=4 "
      "--set model.readers.0.rows_per_step=2 --set training.steps=5";
  ASSERT_EQ(run("train tiny.toml -q -o tape " + settings).status, 0);
  const Outcome outcome = run("analyse tape --examples 70 --tape-budget 3 --calibration-examples 50 --verbose --threads 1");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, ::testing::AllOf(HasSubstr("tape/analysis/analysis.html"), HasSubstr("budget 3: "),
                                               HasSubstr(" on 50 validation examples by --set model.readers.0.threshold=")));
  EXPECT_THAT(outcome.errors, ::testing::AllOf(HasSubstr("kernels: matrix products packed "), HasSubstr("; tape reading fused "),
                                               HasSubstr("; cpu, 1 threads\n")));
  EXPECT_THAT(content_of(path("tape/analysis/analysis.html")), HasSubstr("tape budget 3"));
  EXPECT_NE(content_of(path("tape/analysis/analysis.html")).find(plotly_script()), std::string::npos);
  EXPECT_FALSE(exists("tape/analysis/plotly.min.js"));
  EXPECT_TRUE(exists("tape/analysis/length_by_class.png") && exists("tape/analysis/length_by_margin.png"));
  EXPECT_EQ(nlohmann::json::parse(content_of(path("tape/analysis/analysis.json")))["examples"], 70);

  write("file", "");
  const Outcome refused = run("analyse tape --output file/below");  // before anything is read: there is no progress
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.errors, ::testing::AllOf(::testing::StartsWith("adatape: error: cannot write file/below: "),
                                               ::testing::EndsWith("/file: Not a directory; choose another --output\n")));

  ASSERT_EQ(run("train tiny.toml -q -o plain --set training.steps=5").status, 0);
  EXPECT_THAT(error_of("analyse plain --output nowhere"), HasSubstr("expected a model with a tape, got transformer"));
  EXPECT_THAT(error_of("analyse plain --tape-budget 3 --output nowhere"), HasSubstr("a reader that halts by a threshold"));
  EXPECT_FALSE(exists("nowhere"));
}

// The tape in front of a Universal Transformer is analysed, budgeted and compared like AdaTape's.
TEST_F(AnalyseCommandTest, ATapeInFrontOfAnotherEncoder) {
  std::string config = content_of(path("tiny.toml"));
  for (const auto& [old, with] : {std::pair<std::string, std::string>{"blocks = 1", "max_steps = 2"},
                                  {"name = \"transformer\"", "name = \"universal_transformer\""},
                                  {"length = 2", "length = 12"}})
    config.replace(config.find(old), old.size(), with);
  write("plain.toml", config);
  std::ofstream(path("tape.toml")) << config << "\n[[model.banks]]\nname = \"own\"\nkind = \"learnable\"\nrows = 20\n"
                                   << "[[model.readers]]\nbefore_block = 0\nbank = \"own\"\nmax_tape_tokens = 4\n";
  const Outcome trained = run("train tape.toml -q -o tape --set training.steps=5");
  ASSERT_EQ(trained.status, 0) << trained.errors;
  const Outcome outcome = run("analyse tape --examples 40 --tape-budget 2 --calibration-examples 50");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("budget 2: "));
  EXPECT_NEAR(
      nlohmann::json::parse(run("evaluate tape --tape-budget 2 --calibration-examples 50 --json").output)["tape_length_mean"].get<double>(),
      2, 0.3);
  const Outcome plain = run("train plain.toml -q -o plain --set training.steps=5");
  ASSERT_EQ(plain.status, 0) << plain.errors;
  EXPECT_THAT(error_of("analyse plain --output nowhere"), HasSubstr("got universal_transformer without readers"));
}

}  // namespace
}  // namespace adatape
