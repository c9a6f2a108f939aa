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
  EXPECT_THAT(table.output,
              AllOf(HasSubstr("transformer on parity, 100 examples of the test split"), HasSubstr("accuracy"), HasSubstr("FLOPs"),
                    HasSubstr("examples/s"), ::testing::Not(HasSubstr("tape length")), ::testing::Not(HasSubstr("steps of halting")),
                    ::testing::Not(HasSubstr("tokens a block")), ::testing::Not(HasSubstr("FLOPs saved"))));
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

// PonderNet's count of steps is no loss; what stops by depth says how deep.
TEST_F(EvaluateCommandTest, StepsOfModelsThatHalt) {
  const std::string rest = "[training]\nsteps = 2\nbatch_size = 8\nvalidation_examples = 16\n[evaluation]\ntest_examples = 20\n";
  write("ponder.toml", "[task]\nname = \"parity\"\nlength = 4\nform = \"vector\"\n[model]\nname = \"pondernet\"\nwidth = 8\n" + rest);
  write("act.toml", "[task]\nname = \"parity\"\nlength = 4\nform = \"vector\"\n[model]\nname = \"act_rnn\"\nwidth = 8\n" + rest);
  for (const std::string model : {"ponder", "act"}) {
    const Outcome trained = run("train " + model + ".toml -q -o " + model);
    ASSERT_EQ(trained.status, 0) << trained.errors;
    EXPECT_THAT(trained.output, HasSubstr("steps of halting"));
    const Outcome evaluated = run("evaluate " + model);
    EXPECT_THAT(evaluated.output, AllOf(HasSubstr("steps of halting"), ::testing::Not(HasSubstr("tape length"))));
    EXPECT_EQ(evaluated.output.find("ponder loss") == std::string::npos, model == "ponder");
    const json row = json::parse(run("evaluate " + model + " --json").output);
    EXPECT_GE(row["mean_steps"], 1);
    // One vector an example: the steps are the tokens that its only place cost, summed over them.
    EXPECT_NEAR(row["mean_steps"].get<double>(), row["token_steps"].get<double>(), 1e-9);
  }
  EXPECT_THAT(content_of(path("ponder/metrics.jsonl")), AllOf(HasSubstr("\"ponder_steps\""), HasSubstr("\"validation_ponder_steps\"")));
}

// How many tokens each block computes, and what that saves: against the FLOPs of a run whose halting unit starts so low that nothing halts.
TEST_F(EvaluateCommandTest, TokensOfEachBlock) {
  write("universal.toml", R"([task]
name = "parity"
length = 8
[model]
name = "universal_transformer"
width = 8
heads = 2
ffn_width = 8
max_steps = 4
[training]
steps = 2
batch_size = 8
validation_examples = 16
[evaluation]
test_examples = 20
)");
  const auto row_of = [&](const std::string& name, const std::string& settings) {
    const Outcome trained = run("train universal.toml -q -o " + name + " " + settings);
    EXPECT_EQ(trained.status, 0) << trained.errors;
    return json::parse(run("evaluate " + name + " --json").output);
  };
  const json full = row_of("full", "--set model.halting_bias=-20"), half = row_of("half", "--set model.halting_bias=0.5");
  EXPECT_EQ(full["block_tokens"], json({8.0, 8.0, 8.0, 8.0}));
  EXPECT_NEAR(full["flops_saved"].get<double>(), 0, 1e-12);
  EXPECT_EQ(half["block_tokens"], json({8.0, 8.0}));  // 0.62 + 0.62
  EXPECT_NEAR(half["flops_saved"].get<double>(), 1 - half["flops"].get<double>() / full["flops"].get<double>(), 1e-12);
  EXPECT_GT(half["flops_saved"], 0.3);
  EXPECT_EQ(json::parse(content_of(path("half/result.json")))["block_tokens"], half["block_tokens"]);
  EXPECT_THAT(run("evaluate half").output, AllOf(HasSubstr("\n  tokens a block    8.0 8.0\n"), HasSubstr("% against full depth\n")));
  // Untied blocks of which only every other has experts are not alike: nothing is said about full depth.
  const json experts = row_of("experts", "--set model.shared_blocks=false --set model.moe.experts=2");
  EXPECT_FALSE(experts.contains("flops_saved"));
  EXPECT_TRUE(
      row_of("everywhere", "--set model.shared_blocks=false --set model.moe.experts=2 --set model.moe.every=1").contains("flops_saved"));

  const std::string tape =
      "--set model.name=adatape --set model.blocks=2 --set model.readers.0.before_block=1 "
      "--set model.readers.0.max_tape_tokens=3 --set model.readers.0.rows_per_step=2 --set task.length=12 "
      "--set training.steps=2";
  ASSERT_EQ(run("train tiny.toml -q -o tape " + tape).status, 0);
  const json behind = json::parse(run("evaluate tape --json").output);
  EXPECT_EQ(behind["block_tokens"][0], 12);
  EXPECT_NEAR(behind["block_tokens"][1].get<double>(), 12 + behind["tape_length_mean"].get<double>(), 1e-9);
  EXPECT_FALSE(behind.contains("flops_saved"));
  EXPECT_THAT(run("evaluate tape").output, AllOf(HasSubstr("tokens a block    12.0 1"), ::testing::Not(HasSubstr("FLOPs saved"))));
}

TEST_F(EvaluateCommandTest, TapeBudgets) {
  const std::string settings =
      "--set model.name=adatape --set task.length=12 --set model.readers.0.before_block=0 --set model.readers.0.max_tape_tokens=4 "
      "--set model.readers.0.rows_per_step=2 --set training.steps=5";
  ASSERT_EQ(run("train tiny.toml -q -o tape " + settings).status, 0);
  const Outcome one = run("evaluate tape --tape-budget 2.5 --calibration-examples 80");
  EXPECT_EQ(one.status, 0) << one.errors;
  EXPECT_THAT(one.output, AllOf(HasSubstr("tape length"), HasSubstr("budget 2.5: "), HasSubstr("on 80 validation examples"),
                                HasSubstr("--set model.readers.0.threshold=")));
  // The settings that are printed do the same without the calibration.
  const std::string printed =
      one.output.substr(one.output.find("--set"), one.output.find("\n", one.output.find("--set")) - one.output.find("--set"));
  const std::string set = printed.substr(0, printed.find(';'));
  const json budget = json::parse(run("evaluate tape --json --tape-budget 2.5 --calibration-examples 80").output);
  const json plain = json::parse(run("evaluate tape --json " + set).output);
  EXPECT_EQ(budget["tape_length_mean"], plain["tape_length_mean"]);
  EXPECT_EQ(budget["tape_budgets"][0]["calibrated"]["examples"], 80);

  const Outcome several = run("evaluate tape --tape-budget 1,100%,5");
  EXPECT_THAT(several.output, AllOf(HasSubstr("threshold / T"), HasSubstr("100.0 %"), HasSubstr("beyond training")));
  EXPECT_THAT(several.errors, ::testing::Not(HasSubstr("tape budget 1 cannot be met")));
  EXPECT_THAT(run("evaluate tape --tape-budget 1000").errors,
              HasSubstr("adatape: tape budget 1000 cannot be met; what follows is the nearest below it, 6.000 tape tokens\n"));
  const json sweep = json::parse(run("evaluate tape --sweep --json").output);
  ASSERT_EQ(sweep["tape_budgets"].size(), 8u);
  EXPECT_EQ(sweep["tape_budgets"][0]["tape_length_mean"], 1);
  EXPECT_EQ(sweep["tape_budgets"][7]["tape_length_mean"], 6);
  EXPECT_FALSE(sweep.contains("accuracy") || sweep.contains("flops"));  // of which budget?
  EXPECT_THAT(error_of("evaluate tape --sweep --parts"), HasSubstr("--parts: expected at most one tape budget beside it"));

  EXPECT_THAT(error_of("evaluate tape --tape-budget lots"), HasSubstr("mean tape tokens such as 4.5"));
  train_run();
  EXPECT_THAT(error_of("evaluate run --tape-budget 3"), HasSubstr("expected a model with a reader that halts"));
}

TEST_F(EvaluateCommandTest, BadModelsAreOneLine) {
  EXPECT_THAT(error_of("evaluate nowhere"), HasSubstr("found nothing there"));
  EXPECT_THAT(error_of("evaluate tiny.toml"), HasSubstr("found a file"));
  train_run();
  EXPECT_THAT(error_of("evaluate run --set model.width=16"), AllOf(HasSubstr("run/model.safetensors"), HasSubstr("expected shape")));
  EXPECT_THAT(error_of("evaluate run --set model.widht=16"), HasSubstr("model.width"));
  EXPECT_THAT(error_of("evaluate run --split train"), HasSubstr("--split"));
  EXPECT_THAT(error_of("evaluate run --examples 0"), HasSubstr("--examples: expected 1 or more, got 0 (see"));
  EXPECT_THAT(error_of("evaluate run --examples 1.5"), HasSubstr("--examples: expected a whole number, 1 or more, got 1.5 (see"));

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
