#include <nlohmann/json.hpp>

#include "program.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;
using testing::Outcome;

using BenchCommandTest = testing::ProgramTest;

TEST_F(BenchCommandTest, WritesTableResultsAndPage) {
  const Outcome outcome =
      run("bench models --families vit,avit --sizes tiny --patches 32 --image-size 64 --batch 2 --repeats 1 --output out");
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output,
              ::testing::AllOf(HasSubstr("images/s"), HasSubstr("\nvit_tiny_patch32_224 "), HasSubstr("\navit_tiny_patch32_224 ")));
  const nlohmann::json results = nlohmann::json::parse(testing::content_of(path("out/results.json")));
  ASSERT_EQ(results["runs"].size(), 2u);
  EXPECT_EQ(results["batch_size"], 2);
  EXPECT_LT(results["runs"][1]["flops"], results["runs"][0]["flops"]);
  EXPECT_TRUE(exists("out/report.html") && !exists("out/plotly.min.js"));
}

TEST_F(BenchCommandTest, PathsMayBeAnyBytes) {
  const Outcome outcome =
      run("bench models --families vit --sizes tiny --patches 32 --image-size 64 --batch 1 --repeats 1 --json --output 'gro\xdf'");
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(nlohmann::json::parse(outcome.output)["command"].get<std::string>(), HasSubstr("gro\xef\xbf\xbd"));
}

// One line on stderr: nothing was timed.
TEST_F(BenchCommandTest, PlacesThatCannotBeWrittenAreFoundFirst) {
  EXPECT_THAT(error_of("bench models --families vit --sizes tiny --patches 32 --image-size 64 --batch 1 --repeats 1 --output tiny.toml"),
              ::testing::AllOf(HasSubstr("cannot write tiny.toml: "), HasSubstr("choose another --output")));
}

TEST_F(BenchCommandTest, UnknownNamesGetTheNearestOne) {
  EXPECT_THAT(error_of("bench models --models vit_tiny_patch8_224"), HasSubstr("did you mean \"vit_tiny_patch"));
  EXPECT_THAT(error_of("bench models --sizes huge --families vit"), HasSubstr("got \"vit_huge_patch16_224\""));
  EXPECT_THAT(error_of("bench models --families gpt"),
              HasSubstr("--families: expected some of adatape, vit, avit, uvit, u2t (models on images), got \"gpt\""));
  EXPECT_THAT(error_of("bench tasks"), HasSubstr("tasks"));
}

}  // namespace
}  // namespace adatape
