#include "adatape/train/run_config.h"

#include "adatape/train/config_difference.h"
#include "test_run.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using testing::error_of;
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
