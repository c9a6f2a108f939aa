#include "program.h"

namespace adatape {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::content_of;
using ::testing::HasSubstr;
using testing::Outcome;

class EvaluateCommandTest : public testing::ProgramTest {
 protected:
  void train_run() { ASSERT_EQ(run("train tiny.toml -q -o run --set training.steps=5").status, 0); }
};

TEST_F(EvaluateCommandTest, TableAndJson) {
  train_run();
  const Outcome table = run("evaluate run");
  EXPECT_EQ(table.status, 0) << table.errors;
  EXPECT_THAT(table.output, AllOf(HasSubstr("transformer on parity, 100 examples of the test split"), HasSubstr("accuracy"),
                                  HasSubstr("FLOPs"), HasSubstr("examples/s"), HasSubstr("tape length")));
  const Outcome outcome = run("evaluate run --json --examples 50 --batch-size 7");
  EXPECT_EQ(outcome.errors, "");
  const json row = json::parse(outcome.output);
  EXPECT_EQ(row["examples"], 50);
  EXPECT_GT(row["flops"], 0);
  EXPECT_EQ(row["tape_length_mean"], 0);

  // The test of the run is the same evaluation.
  const json result = json::parse(content_of(path("run/result.json"))), whole = json::parse(run("evaluate run --json").output);
  EXPECT_EQ(result["accuracy"], whole["accuracy"]);
  EXPECT_EQ(result["flops"], whole["flops"]);
  const json validation = json::parse(run("evaluate run --json --split validation --examples 64").output);
  EXPECT_EQ(result["validation_accuracy"], validation["accuracy"]);
}

TEST_F(EvaluateCommandTest, BadModelsAreOneLine) {
  EXPECT_THAT(error_of("evaluate nowhere"), HasSubstr("found nothing there"));
  EXPECT_THAT(error_of("evaluate tiny.toml"), HasSubstr("found a file"));
  train_run();
  EXPECT_THAT(error_of("evaluate run --set model.width=16"), AllOf(HasSubstr("run/model.safetensors"), HasSubstr("expected shape")));
  EXPECT_THAT(error_of("evaluate run --set model.widht=16"), HasSubstr("model.width"));
  EXPECT_THAT(error_of("evaluate run --split train"), HasSubstr("--split"));
  EXPECT_THAT(error_of("evaluate run --examples 0"), HasSubstr("--examples"));

  const std::string weights = content_of(path("run/model.safetensors"));
  write("run/model.safetensors", weights.substr(0, weights.size() - 3));
  EXPECT_THAT(error_of("evaluate run"), HasSubstr("run/model.safetensors"));
  write("run/model.safetensors", std::string(8, '\xff') + weights.substr(8));
  EXPECT_THAT(error_of("evaluate run"), HasSubstr("run/model.safetensors"));
  write("run/model.safetensors", weights.substr(0, weights.size() - 4) + std::string("\x00\x00\xc0\x7f", 4));  // NaN in the last weight
  EXPECT_THAT(error_of("evaluate run"), HasSubstr("expected finite values"));
  write("run/model.safetensors", std::string("\x02\0\0\0\0\0\0\0{}", 10));  // a file without tensors
  EXPECT_THAT(error_of("evaluate run"), HasSubstr("expected a tensor "));
}

}  // namespace
}  // namespace adatape
