// Budgets: what a calibration promises is what a forward pass with its settings then does.
#include "adatape/train/tape_calibration.h"

#include "adatape/models/adatape.h"
#include "adatape/models/registry.h"
#include "adatape/nn/initialize.h"
#include "adatape/tasks/task.h"
#include "adatape/train/evaluate.h"
#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kExamples = 150;

// An untrained AdaTape on sequences of 12 and 16 symbols whose weights spread the halting sums.
LoadedRun run_of(const std::string& keys,
                 const std::string& readers =
                     "[[model.readers]]\nbefore_block = 0\nmax_tape_tokens = 6\nthreshold = 2.0\n"
                     "rows_per_step = 2\nkey_split = 2\n",
                 const std::string& model = "name = \"adatape\"\nblocks = 2\n") {
  LoadedRun run;
  run.config = RunConfig::from_document(ConfigDocument::from_text(
      "[task]\nname = \"parity\"\nlength = 16\nlengths = [12, 16]\n[model]\ninput = \"tokens\"\nwidth = 16\nheads = 2\n"
      "ffn_width = 16\n" +
      model + keys + "[[model.banks]]\nname = \"input\"\npositions = \"on\"\n" + readers + "[evaluation]\nbatch_size = 70\n"));
  run.task = find_task("parity").make_task(*run.config.task);
  run.model = find_model(run.config.model->name).make_model(*run.config.model, run.task->input_spec());
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(5, 0);
  for (const NamedParameter& parameter : run.model->named_parameters()) {
    torch::Tensor noise = torch::zeros_like(parameter.tensor);
    normal(noise, 0.5, generator);
    parameter.tensor.data().add_(noise);
  }
  return run;
}

EvaluationResult evaluated(LoadedRun& run) {
  return evaluate(*run.model, *run.task, Split::kValidation, kExamples, 70, at::kCPU, /*quick=*/false);
}

// Applies the setting and compares. Returns what was evaluated.
EvaluationResult expect_kept(LoadedRun& run, const TapeSetting& setting) {
  apply_tape_setting(run, setting);
  const EvaluationResult result = evaluated(run);
  EXPECT_DOUBLE_EQ(result.tape_length_mean, setting.tape_tokens) << setting.budget.text;
  EXPECT_NEAR(result.flops / setting.flops, 1, 1e-12) << setting.budget.text;
  const double reached = setting.budget.share_of_flops ? setting.flops_share : setting.tape_tokens;
  EXPECT_EQ(setting.met, std::abs(reached - setting.budget.amount) <= 0.02 * setting.budget.amount) << setting.budget.text;
  EXPECT_TRUE(setting.met || reached < setting.budget.amount) << setting.budget.text;
  return result;
}

TEST(TapeCalibration, TapeTokensAreThoseOfAForwardPass) {
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  EXPECT_EQ(calibration.fewest_tokens(), 1);
  EXPECT_EQ(calibration.most_tokens(), 6);
  double before = 0;
  int between = 0;
  for (const char* budget : {"1", "2.2", "2.9", "3.5", "4.5", "5.5", "6"}) {
    const TapeSetting setting = calibration.find(parse_tape_budget(budget));
    EXPECT_TRUE(setting.met) << budget << " reached " << setting.tape_tokens;
    EXPECT_FALSE(setting.beyond_training);
    const EvaluationResult result = expect_kept(run, setting);
    EXPECT_GE(result.tape_length_mean, before);
    between += result.tape_length_std > 0;
    before = result.tape_length_mean;
  }
  EXPECT_GE(between, 4);  // examples differ
}

TEST(TapeCalibration, SharesOfFlopsAreThoseOfFullTapes) {
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  const double full = expect_kept(run, calibration.find(parse_tape_budget("100%"))).flops;
  EXPECT_EQ(evaluated(run).tape_length_mean, 6);
  for (const char* budget : {"80%", "92.5%"}) {
    const TapeSetting setting = calibration.find(parse_tape_budget(budget));
    const double wanted = std::strtod(budget, nullptr) / 100;
    EXPECT_TRUE(setting.met) << budget;
    EXPECT_NEAR(expect_kept(run, setting).flops / full, wanted, 0.02 * wanted) << budget;
  }
}

TEST(TapeCalibration, GoesBeyondTrainingAsFarAsTheBank) {
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  const TapeSetting some = calibration.find(parse_tape_budget("6.6"));
  EXPECT_TRUE(some.beyond_training && some.met);
  EXPECT_EQ(some.readers.front().max_tape_tokens, 8);  // ceil(16 symbols / 2 rows)
  expect_kept(run, some);
  // Two rows a step: 6 steps for the sequences of 12 symbols, 8 for those of 16.
  const Batch batch = run.task->held_out_batch(Split::kValidation, 0, kExamples);
  const double whole = static_cast<double>(batch.offsets.back()) / 2 / kExamples;
  const TapeSetting all = calibration.find(parse_tape_budget("50"));
  EXPECT_FALSE(all.met);
  EXPECT_DOUBLE_EQ(all.tape_tokens, whole);
  expect_kept(run, all);
  EXPECT_DOUBLE_EQ(calibration.most_tokens(2), whole);
  EXPECT_GT(whole, 6.6);
}

TEST(TapeCalibration, BankLongTapesKeepAShare) {
  LoadedRun run = run_of("", "[[model.readers]]\nbefore_block = 1\nmax_tape_tokens = \"bank\"\nthreshold = 0.5\nrows_per_step = 2\n");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  for (const char* budget : {"3.7", "5", "90%", "96%"}) {
    const TapeSetting setting = calibration.find(parse_tape_budget(budget));
    EXPECT_FALSE(setting.readers.front().max_tape_tokens.has_value());
    EXPECT_EQ(setting.readers.front().threshold, std::round(1e6 * setting.share) / 1e6);
    expect_kept(run, setting);
  }
}

const std::string kTwoReaders =
    "[[model.readers]]\nbefore_block = 0\nmax_tape_tokens = 4\nthreshold = 2.0\nrows_per_step = 2\n"
    "[[model.readers]]\nbefore_block = 1\nmax_tape_tokens = 8\nthreshold = 2.0\nrows_per_step = 2\n";

// The mean query of the second reader sees the first one's tape: the calibration has to run the model.
TEST(TapeCalibration, ReadersThatDependOnEachOtherShareOneKnob) {
  LoadedRun run = run_of("", kTwoReaders);
  TapeCalibration calibration(run, at::kCPU, kExamples);
  for (const char* budget : {"4.4", "7.5", "85%", "13"}) {
    const TapeSetting setting = calibration.find(parse_tape_budget(budget));
    ASSERT_EQ(setting.readers.size(), 2u);
    EXPECT_NEAR(setting.readers[0].threshold / static_cast<double>(*setting.readers[0].max_tape_tokens), setting.share, 1e-6);
    EXPECT_NEAR(setting.readers[1].threshold / static_cast<double>(*setting.readers[1].max_tape_tokens), setting.share, 1e-6);
    expect_kept(run, setting);
  }
}

TEST(TapeCalibration, LearnedQueriesNeedOnePass) {
  std::string learned = kTwoReaders;
  learned += "query = \"learned\"\n";
  LoadedRun run = run_of("", learned);
  int64_t batches = 0;
  TapeCalibration calibration(run, at::kCPU, kExamples, [&] { ++batches; });
  for (const char* budget : {"4.4", "7.5", "8.5", "10"}) expect_kept(run, calibration.find(parse_tape_budget(budget)));
  EXPECT_EQ(batches, (kExamples + 69) / 70);
}

// How deep an example goes depends on what it shows, not on its tape's length alone.
TEST(TapeCalibration, FlopsOfEncodersThatHaltAreWhatTheyRun) {
  LoadedRun run =
      run_of("", "[[model.readers]]\nbefore_block = 0\nmax_tape_tokens = 6\nthreshold = 2.0\nrows_per_step = 2\nkey_split = 2\n",
             "name = \"universal_transformer\"\nmax_steps = 6\n");
  const EvaluationResult own = evaluated(run);
  ASSERT_TRUE(own.steps && *own.steps > 1.1 && *own.steps < 5.9);  // examples differ
  TapeCalibration calibration(run, at::kCPU, kExamples);
  for (const char* budget : {"3", "85%", "95%"}) expect_kept(run, calibration.find(parse_tape_budget(budget)));
}

// One example's tape has whole tokens: 2.97 is met by three of them, not by two.
TEST(TapeCalibration, TakesTheAmountAboveABudgetThatMeetsIt) {
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, 1);
  const TapeSetting close = calibration.find(parse_tape_budget("2.97")), far = calibration.find(parse_tape_budget("2.8"));
  EXPECT_TRUE(close.met);
  EXPECT_EQ(close.tape_tokens, 3);
  EXPECT_FALSE(far.met);
  EXPECT_EQ(far.tape_tokens, 2);
}

TEST(TapeCalibration, LeavesTheModelAsItIs) {
  LoadedRun run = run_of("");
  const double before = evaluated(run).tape_length_mean;
  TapeCalibration calibration(run, at::kCPU, kExamples);
  calibration.find(parse_tape_budget("6.5"));
  EXPECT_EQ(evaluated(run).tape_length_mean, before);
  int64_t calls = 0;
  TapeCalibration stopped(run, at::kCPU, kExamples, [&] {
    if (++calls == 2) throw Interrupted("stop");
  });
  EXPECT_THROW(stopped.find(parse_tape_budget("3")), Interrupted);
  EXPECT_EQ(evaluated(run).tape_length_mean, before);
}

TEST(TapeCalibration, SettingsGoThroughAConfiguration) {
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  for (const char* budget : {"2.9", "6.5"}) {
    const TapeSetting setting = calibration.find(parse_tape_budget(budget));
    apply_tape_setting(run, setting);
    ConfigDocument document = ConfigDocument::from_text(run_of("").config.to_toml());
    for (const std::string& assignment : tape_setting_assignments(setting)) document.set(assignment);
    EXPECT_EQ(RunConfig::from_document(document).to_toml(), run.config.to_toml());
  }
}

TEST(TapeCalibration, SweepsFromOneStepToBeyondTraining) {
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  std::vector<std::string> budgets;
  for (const TapeBudget& budget : sweep_budgets(calibration)) budgets.push_back(budget.text);
  ASSERT_EQ(budgets.size(), 8u);
  EXPECT_THAT(std::vector<std::string>(budgets.begin(), budgets.begin() + 6), ::testing::ElementsAre("1", "2", "3", "4", "5", "6"));
  EXPECT_NEAR(std::stod(budgets[7]), calibration.most_tokens(2), 1e-3);
  EXPECT_NEAR(std::stod(budgets[6]), (6 + calibration.most_tokens(2)) / 2, 1e-3);
}

TEST(TapeCalibration, BlanksOfABudgetSayNothing) {
  const TapeBudget share = parse_tape_budget(" 5 % "), tokens = parse_tape_budget(" 4.5");
  EXPECT_TRUE(share.share_of_flops);
  EXPECT_DOUBLE_EQ(share.amount, 0.05);
  EXPECT_EQ(share.text, "5%");
  EXPECT_DOUBLE_EQ(tokens.amount, 4.5);
  EXPECT_EQ(tokens.text, "4.5");
}

TEST(TapeCalibration, WhatCannotBeIsNamed) {
  for (const char* text : {"", "%", "many", "0", "-1", "0%", "nan", "inf", "4,5", "4.5 tokens", "1e999", " ", " %", "4 5"}) {
    EXPECT_THAT(error_of([&] { parse_tape_budget(text); }), HasSubstr("tape budget: expected mean tape tokens such as 4.5")) << text;
  }
  LoadedRun run = run_of("");
  TapeCalibration calibration(run, at::kCPU, kExamples);
  EXPECT_THAT(error_of([&] { calibration.find(parse_tape_budget("0.5")); }), HasSubstr("expected at least 1, what one tape token"));
  EXPECT_THAT(error_of([&] { calibration.find(parse_tape_budget("1%")); }), HasSubstr("%, what one tape token"));
  const LoadedRun unthresholded = run_of("", "[[model.readers]]\nbefore_block = 0\nhalting = \"none\"\nrows_per_step = 2\n");
  EXPECT_THAT(error_of([&] { TapeCalibration(unthresholded, at::kCPU, kExamples); }),
              HasSubstr("a reader that halts by a threshold; adatape"));
}

}  // namespace
}  // namespace adatape
