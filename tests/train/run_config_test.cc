#include "adatape/train/run_config.h"

#include "adatape/train/config_difference.h"
#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::tiny_config;

std::string error_with(const std::string& assignment) {
  return error_of([&] { tiny_config({assignment}); });
}

TEST(RunConfig, LabelIsTheModelsName) {
  EXPECT_EQ(tiny_config().label, "transformer");
  EXPECT_EQ(tiny_config({"label=small"}).label, "small");
}

TEST(RunConfig, ReadsBackWhatItWrites) {
  for (const char* model : {"transformer", "adatape", "universal_transformer"}) {
    RunConfig config = tiny_config({std::string("model.name=") + model, "training.learning_rate=0.1", "description=a \"quoted\" one"});
    const std::string text = config.to_toml();
    RunConfig again = RunConfig::from_document(ConfigDocument::from_text(text));
    EXPECT_EQ(again.to_toml(), text);
    EXPECT_FALSE(first_difference(config, again));
  }
}

TEST(RunConfig, NamesWhatIsWrong) {
  EXPECT_THAT(error_with("training.stepz=3"), AllOf(HasSubstr("training.stepz"), HasSubstr("training.steps")));
  EXPECT_THAT(error_with("training.steps=many"), HasSubstr("training.steps"));
  EXPECT_THAT(error_with("training.steps=0"), AllOf(HasSubstr("training.steps"), HasSubstr("0")));
  EXPECT_THAT(error_with("training.schedule=linear"), AllOf(HasSubstr("training.schedule"), HasSubstr("cosine")));
  EXPECT_THAT(error_with("model.name=adatap"), AllOf(HasSubstr("adatap"), HasSubstr("adatape")));
  EXPECT_THAT(error_with("task.name=pariti"), HasSubstr("parity"));
  EXPECT_EQ(error_with("training.accumulate=5"), "training.accumulate: expected a divisor of training.batch_size (12), got 5");
  EXPECT_THAT(error_with("training.beta2=1"), HasSubstr("training.beta2: expected a number below 1"));
  EXPECT_THAT(error_of([] { RunConfig::from_document(ConfigDocument::from_text("[task]\nname = \"parity\"\n")); }),
              AllOf(HasSubstr("model.name: expected one of: adatape"), HasSubstr("does not set it")));
}

// Byte i + 1 is the answer at byte i: a model that sees it has nothing to learn.
TEST(RunConfig, WhatFollowsIsAskedOfCausalModelsAlone) {
  const auto error = [](const std::string& model, const std::string& task, const std::string& keys = "") {
    return error_of([&] {
      RunConfig::from_document(
          ConfigDocument::from_text("[task]\nname = \"" + task + "\"\n" + keys + "[model]\nname = \"" + model + "\"\n"));
    });
  };
  for (const char* model : {"transformer", "adatape", "universal_transformer", "pondernet", "avit", "u2t"}) {
    EXPECT_THAT(error(model, "language_modelling"),
                AllOf(HasSubstr("expected a causal model (act_rnn, gpt, palm) for task language_modelling"), HasSubstr(model)));
  }
  for (const char* model : {"gpt", "palm", "act_rnn"}) EXPECT_EQ(error(model, "language_modelling"), "no error") << model;
  EXPECT_EQ(error("t5", "language_modelling", "prefix = 8\n"), "no error");
  EXPECT_EQ(error("transformer", "algorithmic", "form = \"each\"\n"), "no error");
}

TEST(RunConfig, OneSequenceOrTwoNamesTheKey) {
  const auto error = [](const std::string& keys) { return error_of([&] { RunConfig::from_document(ConfigDocument::from_text(keys)); }); };
  const std::string text = "[task]\nname = \"language_modelling\"\n", digits = "[task]\nname = \"algorithmic\"\n",
                    gpt = "[model]\nname = \"gpt\"\n", t5 = "[model]\nname = \"t5\"\n";
  EXPECT_THAT(error(text + "prefix = 8\n" + gpt), HasSubstr("the task gives two; task.prefix = 0 gives one"));
  EXPECT_THAT(error(text + t5), HasSubstr("the task gives one; task.prefix = 0 gives one, 1 or more gives two"));
  EXPECT_THAT(error(digits + "form = \"each\"\n" + t5),
              HasSubstr("the task gives one; task.form = \"each\" gives one, \"decoder\" gives two"));
  EXPECT_THAT(error(digits + "[model]\nname = \"transformer\"\n"), HasSubstr("the task gives two; task.form"));
}

TEST(ConfigDifference, FindsTheFirstField) {
  RunConfig before = tiny_config({"model.name=adatape"});
  RunConfig same = tiny_config({"model.name=adatape"});
  EXPECT_FALSE(first_difference(before, same));

  RunConfig after = tiny_config({"model.name=adatape", "training.steps=31", "training.seed=9"});
  auto difference = first_difference(before, after);
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->key, "training.steps");
  EXPECT_EQ(difference->before, "30");
  EXPECT_EQ(difference->after, "31");

  RunConfig other_reader = tiny_config({"model.name=adatape", "model.readers.0.rows_per_step=3"});
  difference = first_difference(before, other_reader);
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->key, "model.readers.0.rows_per_step");

  RunConfig other_model = tiny_config({"label=adatape", "model.name=transformer"});
  difference = first_difference(before, other_model);
  ASSERT_TRUE(difference);
  EXPECT_EQ(difference->key, "model.name");
  EXPECT_EQ(difference->before, "\"adatape\"");
  EXPECT_EQ(difference->after, "\"transformer\"");
}

}  // namespace
}  // namespace adatape
