#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "adatape/core/check.h"
#include "adatape/tasks/task.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

TEST(TaskRegistry, EntriesMakeTheirConfigurations) {
  std::set<std::string> names;
  for (const TaskEntry& entry : task_registry()) {
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
    EXPECT_FALSE(entry.summary.empty());
    EXPECT_EQ(&find_task(entry.name), &entry);
    const std::unique_ptr<TaskConfig> config = entry.make_config();
    EXPECT_EQ(config->name, entry.name);
    config->resolve();
    EXPECT_NO_THROW(config->validate());
    EXPECT_GE(config->input_spec().classes, 2);
    std::set<std::string> keys;
    for (const OptionInfo& option : list_options([&](FieldVisitor& visit) { config->fields(visit); })) {
      EXPECT_TRUE(keys.insert(option.key).second) << option.key;
      EXPECT_FALSE(option.help.empty()) << option.key;
    }
    EXPECT_TRUE(keys.contains("name"));
  }
  EXPECT_EQ(names, (std::set<std::string>{"parity", "image_classification", "logic", "addition", "sort", "nested_arithmetic",
                                          "cluttered_scenes", "algorithmic", "language_modelling", "language_identification", "graphs"}));
}

TEST(TaskRegistry, ConfigurationsRoundTrip) {
  for (const TaskEntry& entry : task_registry()) {
    const std::unique_ptr<TaskConfig> config = entry.make_config(), read = entry.make_config();
    const std::string toml = to_toml(*config);
    ConfigDocument::from_text(toml).read(*read);
    EXPECT_EQ(to_toml(*read), toml);
  }
}

TEST(TaskRegistry, NamesTheNearestTask) {
  try {
    find_task("partiy");
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "task: expected one of parity, image_classification, logic, addition, sort, nested_arithmetic, cluttered_scenes, "
                 "algorithmic, language_modelling, language_identification, graphs, got \"partiy\"; did you mean \"parity\"?");
  }
}

TEST(TaskRegistry, RefusesTheConfigurationOfAnotherTask) {
  const std::unique_ptr<TaskConfig> images = find_task("image_classification").make_config();
  try {
    find_task("parity").make_task(*images);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected the configuration of task parity, got that of \"image_classification\""));
  }
}

}  // namespace
}  // namespace adatape
