#include <map>
#include <sstream>

#include "adatape/models/registry.h"
#include "program.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::Outcome;

using HelpTest = testing::ProgramTest;

TEST_F(HelpTest, TeachesTheProgram) {
  const Outcome help = run("--help");
  EXPECT_EQ(help.status, 0);
  EXPECT_EQ(help.errors, "");
  EXPECT_THAT(help.output, AllOf(HasSubstr("adatape: train and measure transformers"), HasSubstr("train"), HasSubstr("evaluate"),
                                 HasSubstr("list"), HasSubstr("Examples:\n  adatape list models")));
  EXPECT_EQ(run("").output, help.output);
}

// The words behind `title` in the main help, one command a line: {"train", "train a model ..."}.
std::vector<std::pair<std::string, std::string>> rows_of(const std::string& help, const std::string& title) {
  std::vector<std::pair<std::string, std::string>> rows;
  std::istringstream lines(help.substr(help.find("\n" + title + "\n") + title.size() + 2));
  for (std::string line; std::getline(lines, line) && !line.empty();) {
    const size_t name = line.find_first_not_of(' '), end = line.find(' ', name), summary = line.find_first_not_of(' ', end);
    rows.emplace_back(name == 2 ? line.substr(name, end - name) : "", summary == std::string::npos ? "" : line.substr(summary));
  }
  return rows;
}

TEST_F(HelpTest, TheTableHasALineForEachCommandAndItsOwnHelpTeaches) {
  const auto rows = rows_of(run("--help").output, "Subcommands:");
  ASSERT_EQ(rows.size(), 12u);
  for (const auto& [name, summary] : rows) {
    ASSERT_NE(name, "") << "a line that is no command: " << summary;
    EXPECT_GE(summary.size(), 20u) << name;
    EXPECT_LE(summary.size(), 90u) << name;
    EXPECT_TRUE(std::islower(summary.front()) != 0 && summary.back() != '.') << summary;  // a phrase, in the manner of its neighbours
  }
  for (const auto& [name, words] : std::map<std::string, std::string>{{"forward", "`images` float [B, C, H, W]"},
                                                                      {"generate", "Equal seeds give a prompt equal text"},
                                                                      {"import", "Every parameter must be found"},
                                                                      {"export", "the same bits"},
                                                                      {"verify", "(|got - expected| <= tolerance"},
                                                                      {"bench", "the median counts"}}) {
    const std::string own = run(name + " --help").output;
    EXPECT_THAT(own, AllOf(HasSubstr(words), ::testing::ContainsRegex("\nExamples?:\n  adatape " + name + " "))) << name;
  }
}

TEST_F(HelpTest, EachCommandHasExamplesAndDefaults) {
  const std::string train = run("train --help").output;
  EXPECT_THAT(train,
              AllOf(HasSubstr("--resume"), HasSubstr("KEY=VALUE"), HasSubstr("NAME=auto"), HasSubstr("Examples:\n  adatape train ")));
  EXPECT_THAT(run("evaluate --help").output,
              AllOf(HasSubstr("--split"), HasSubstr("=test\n"), HasSubstr("Examples:\n  adatape evaluate ")));
  EXPECT_THAT(run("list --help").output, AllOf(HasSubstr("options"), HasSubstr("Examples:\n  adatape list ")));
}

TEST_F(HelpTest, Version) { EXPECT_THAT(run("--version").output, ::testing::MatchesRegex("adatape [0-9.]+ \\(torch [0-9.]+\\)\n")); }

TEST_F(HelpTest, UnknownWordsGetTheNearestOne) {
  EXPECT_THAT(error_of("trian x.toml"), HasSubstr("unknown command trian; did you mean train?"));
  EXPECT_THAT(error_of("train tiny.toml --outptu runs/a"), HasSubstr("unknown option --outptu; did you mean --output?"));
  EXPECT_THAT(error_of("evaluate"), HasSubstr("RUN_OR_MODEL is required (see adatape evaluate --help)"));
  EXPECT_THAT(error_of("train tiny.toml other.toml"), HasSubstr("unexpected argument other.toml"));
  EXPECT_THAT(error_of("train tiny.toml --seed many"), HasSubstr("--seed"));
  EXPECT_THAT(error_of("--verion"), HasSubstr("unknown option --verion; did you mean --version?"));
}

using ListTest = testing::ProgramTest;

TEST_F(ListTest, ModelsAndTasks) {
  EXPECT_THAT(run("list models").output, AllOf(HasSubstr("adatape "), HasSubstr("universal_transformer "), HasSubstr("2301.13195")));
  EXPECT_THAT(run("list tasks").output, AllOf(HasSubstr("parity "), HasSubstr("image_classification ")));
}

TEST_F(ListTest, PublishedSizes) {
  EXPECT_THAT(run("list models").output, HasSubstr("\navit_{tiny,small,base,large}_patch{16,32}_224"));
  const std::string keys = run("list models avit_tiny_patch16_224").output;
  EXPECT_THAT(keys, AllOf(HasSubstr("# avit_tiny_patch16_224: width 192"), HasSubstr("[model]\nname = \"avit\""),
                          HasSubstr("\nwidth = 192\n"), HasSubstr("\ngate_center = 30.0\n")));
  EXPECT_THAT(run("list models gpt3_175b").output, AllOf(HasSubstr("# gpt3_175b: 175B parameters"), HasSubstr("\nwidth = 12288\n")));
  EXPECT_THAT(run("list models t5_1.1_small").output, AllOf(HasSubstr("name = \"t5\""), HasSubstr("activation = \"gated_gelu\"")));
  EXPECT_THAT(error_of("list models gpt"), HasSubstr("`adatape list options gpt` shows its keys"));
  EXPECT_THAT(error_of("list models avit_tiny_patch14_224"), HasSubstr("did you mean \"avit_tiny_patch16_224\"?"));
}

TEST_F(ListTest, Options) {
  const std::string training = run("list options training").output;
  EXPECT_THAT(training,
              AllOf(HasSubstr("[training]\nkey"), HasSubstr("training.warmup_steps"), HasSubstr("integer >= 0"), HasSubstr("cosine")));
  EXPECT_THAT(run("list options adatape").output, AllOf(HasSubstr("model.readers.N.threshold"), HasSubstr("\"adatape\"")));
  const std::string all = run("list options").output;
  EXPECT_THAT(all, AllOf(HasSubstr("task.length"), HasSubstr("model.readers.N.threshold"), HasSubstr("evaluation.batch_size"),
                         HasSubstr("\ndescription"), HasSubstr(training)));
  EXPECT_THAT(error_of("list options adatap"), HasSubstr("did you mean \"adatape\"?"));
  EXPECT_THAT(error_of("list options vit_tiny_patch16_224"), HasSubstr("a size of vit; see `adatape list options vit`"));
  EXPECT_THAT(error_of("list options gpt2"), HasSubstr("a size of gpt; see `adatape list options gpt`"));
  EXPECT_THAT(error_of("list tasks parity"), HasSubstr("expected no name after tasks, got parity"));
  EXPECT_THAT(error_of("list everything"), HasSubstr("everything"));
}

TEST_F(ListTest, EveryOptionOfEveryModel) {
  for (const ModelEntry& entry : model_registry()) {
    const auto config = entry.make_config();
    const std::string shown = run("list options " + entry.name).output;
    size_t keys = 0;
    for (const OptionInfo& option : list_options([&](FieldVisitor& visit) { config->fields(visit); })) {
      EXPECT_THAT(shown, AllOf(HasSubstr("\nmodel." + option.key + " "), HasSubstr(option.help))) << entry.name;
      ++keys;
    }
    EXPECT_GT(keys, 5u);
  }
}

TEST_F(ListTest, SaysWhenNobodyCanRead) {
  const Outcome outcome = run("list options > /dev/full");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_EQ(outcome.errors, "adatape: error: cannot write to standard output\n");
}

}  // namespace
}  // namespace adatape
