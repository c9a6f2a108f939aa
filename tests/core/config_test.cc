#include "adatape/core/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "adatape/core/check.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Window {
  int64_t size = 2;
  void fields(FieldVisitor& visit) { visit.integer("size", size, {.minimum = 1}, "window size"); }
};

struct Reader {
  double threshold = 1.0;
  std::string input = "bank";
  Window window;
  std::vector<Window> windows;
  void fields(FieldVisitor& visit) {
    visit.table("window", window, "the window");
    visit.real("threshold", threshold, {.minimum = 0, .exclusive_minimum = true}, "halting threshold");
    visit.choice("input", input, {"bank", "tokens"}, "where tokens come from");
    visit.list("windows", windows, "more windows");
  }
};

struct Model {
  int64_t width = 192;
  std::optional<int64_t> tape = 10;
  double rate = 1e-3;
  std::vector<Reader> readers{Reader{}, Reader{}};
  void fields(FieldVisitor& visit) {
    visit.integer("width", width, {.minimum = 1}, "width of a token");
    visit.integer_or("tape", tape, "bank", {.minimum = 1}, "tape tokens");
    visit.real("rate", rate, {.minimum = 0, .maximum = 1}, "a rate");
    visit.list("readers", readers, "tape readers");
  }
};

struct Config {
  bool fast = false;
  std::string title = "run";
  std::vector<int64_t> sizes{1, 2};
  std::vector<double> rates{0.5};
  Model model;
  int64_t seed = 0;
  void fields(FieldVisitor& visit) {
    visit.boolean("fast", fast, "speed");
    visit.text("title", title, "title");
    visit.integers("sizes", sizes, {.minimum = 0}, "sizes");
    visit.reals("rates", rates, {}, "rates");
    visit.table("model", model, "the model");
    visit.integer("seed", seed, {}, "seed");
  }
};

Config read(const std::string& text, const std::vector<std::string>& assignments = {}) {
  ConfigDocument document = ConfigDocument::from_text(text);
  for (const std::string& assignment : assignments) document.set(assignment);
  Config config;
  document.read(config);
  return config;
}

std::string read_error(const std::string& text, const std::vector<std::string>& assignments = {}) {
  return error_of([&] { read(text, assignments); });
}

TEST(Config, KeepsDefaultsThatAreNotNamed) {
  const Config config = read("");
  EXPECT_EQ(config.model.width, 192);
  EXPECT_EQ(config.model.readers.size(), 2u);
  EXPECT_THAT(config.sizes, ElementsAre(1, 2));
}

TEST(Config, ReadsEveryKind) {
  const Config config = read(R"(
    fast = true
    title = "a \"b\""
    sizes = []
    rates = [1, 2.5, inf]
    seed = -3
    [model]
    width = 64
    tape = "bank"
    rate = 1
    [[model.readers]]
    threshold = inf
    input = "tokens"
    window = {size = 7}
    [[model.readers.windows]]
    size = 9
  )");
  EXPECT_TRUE(config.fast);
  EXPECT_EQ(config.title, "a \"b\"");
  EXPECT_THAT(config.sizes, IsEmpty());
  EXPECT_THAT(config.rates, ElementsAre(1.0, 2.5, INFINITY));
  EXPECT_EQ(config.seed, -3);
  EXPECT_EQ(config.model.tape, std::nullopt);
  EXPECT_EQ(config.model.rate, 1.0);
  ASSERT_EQ(config.model.readers.size(), 1u);
  EXPECT_EQ(config.model.readers[0].threshold, INFINITY);
  EXPECT_EQ(config.model.readers[0].window.size, 7);
  EXPECT_EQ(config.model.readers[0].windows.at(0).size, 9);
}

TEST(Config, AListThatIsNamedReplacesTheDefault) {
  EXPECT_THAT(read("[model]\nreaders = []").model.readers, IsEmpty());
  const Config config = read("[[model.readers]]\n[[model.readers]]\ninput = 'tokens'\n[[model.readers]]");
  ASSERT_EQ(config.model.readers.size(), 3u);
  EXPECT_EQ(config.model.readers[1].input, "tokens");
  EXPECT_EQ(config.model.readers[2].input, "bank");
}

TEST(Config, UnknownKeysNameTheNearest) {
  EXPECT_EQ(read_error("[model]\nwidht = 3"), "config: unknown key model.widht; did you mean model.width? (see 'adatape list options')");
  EXPECT_EQ(read_error("width = 3"), "config: unknown key width; did you mean model.width? (see 'adatape list options')");
  EXPECT_EQ(read_error("[modle]\nx = 3"), "config: unknown key modle; did you mean model? (see 'adatape list options')");
  EXPECT_EQ(read_error("[[model.readers]]\n[[model.readers]]\ntreshold = 1"),
            "config: unknown key model.readers.1.treshold; did you mean model.readers.1.threshold? (see 'adatape list options')");
  EXPECT_EQ(read_error("qqqqqqqq = 3"), "config: unknown key qqqqqqqq; see 'adatape list options'");
}

TEST(Config, WrongTypesAndRanges) {
  EXPECT_EQ(read_error("[model]\nwidth = 'abc'"), "config: model.width: expected integer >= 1, got \"abc\"");
  EXPECT_EQ(read_error("[model]\nwidth = 0"), "config: model.width: expected integer >= 1, got 0");
  EXPECT_EQ(read_error("[model]\nwidth = 3.0"), "config: model.width: expected integer >= 1, got 3.0");
  EXPECT_EQ(read_error("[model]\ntape = 'bink'"), "config: model.tape: expected integer >= 1 | \"bank\", got \"bink\"");
  EXPECT_EQ(read_error("[model]\ntape = 0"), "config: model.tape: expected integer >= 1 | \"bank\", got 0");
  EXPECT_EQ(read_error("[model]\nrate = 1.5"), "config: model.rate: expected real in [0, 1], got 1.5");
  EXPECT_EQ(read_error("[model]\nrate = nan"), "config: model.rate: expected real in [0, 1], got nan");
  EXPECT_EQ(read_error("rates = [0.1, nan]"), "config: rates.1: expected real, got nan");
  EXPECT_EQ(read_error("[[model.readers]]\nthreshold = 0"), "config: model.readers.0.threshold: expected real > 0, got 0");
  EXPECT_EQ(read_error("[[model.readers]]\ninput = 'token'"),
            "config: model.readers.0.input: expected one of: bank, tokens; got \"token\"; did you mean tokens?");
  EXPECT_EQ(read_error("fast = 1"), "config: fast: expected true or false, got 1");
  EXPECT_EQ(read_error("title = 1979-05-27"), "config: title: expected text, got a date or time");
  EXPECT_EQ(read_error("model = 3"), "config: model: expected a table, got 3");
  EXPECT_EQ(read_error("[model]\nreaders = 3"), "config: model.readers: expected a list of tables, got 3");
  EXPECT_EQ(read_error("[model]\nreaders = [{}, 4]"), "config: model.readers.1: expected a table, got 4");
  EXPECT_EQ(read_error("sizes = 4"), "config: sizes: expected a list of integer >= 0, got 4");
  EXPECT_EQ(read_error("sizes = [1, -4]"), "config: sizes.1: expected integer >= 0, got -4");
}

TEST(Config, SetReadsTomlAndPlainText) {
  const Config config = read("[model]\nwidth = 3", {"model.width = 64", "title=plain text", "fast=true", "sizes=[4, 5]", "model.tape=bank",
                                                    "model.rate=1e-2", "sizes.1=9", "sizes.2=10"});
  EXPECT_EQ(config.model.width, 64);
  EXPECT_EQ(config.title, "plain text");
  EXPECT_TRUE(config.fast);
  EXPECT_THAT(config.sizes, ElementsAre(4, 9, 10));
  EXPECT_EQ(config.model.tape, std::nullopt);
  EXPECT_EQ(config.model.rate, 0.01);
  EXPECT_EQ(read("", {"title=\"\""}).title, "");
  EXPECT_EQ(read("", {"title=a = b"}).title, "a = b");
  EXPECT_EQ(read("", {"title=2024-01-31"}).title, "2024-01-31");
  EXPECT_EQ(read("", {"title='x'\nseed = 4"}).title, "'x'\nseed = 4") << "a line break must not smuggle in a second key";
}

TEST(Config, SetReachesIntoLists) {
  const Config made = read("", {"model.readers.0.threshold=3", "model.readers.1.window.size=4"});
  ASSERT_EQ(made.model.readers.size(), 2u);
  EXPECT_EQ(made.model.readers[0].threshold, 3.0);
  EXPECT_EQ(made.model.readers[1].window.size, 4);
  const Config changed = read("[[model.readers]]\n[[model.readers]]\ninput='tokens'", {"model.readers.1.threshold=3"});
  EXPECT_EQ(changed.model.readers[1].threshold, 3.0);
  EXPECT_EQ(changed.model.readers[1].input, "tokens");
}

TEST(Config, SetErrors) {
  EXPECT_EQ(read_error("", {"model.width"}), "config: --set model.width: expected key=value, e.g. model.width=192");
  EXPECT_EQ(read_error("", {"=3"}), "config: --set \"=3\": expected key=value, e.g. model.width=192");
  EXPECT_EQ(read_error("", {""}), "config: --set \"\": expected key=value, e.g. model.width=192");
  EXPECT_EQ(read_error("", {"model.width= "}), "config: --set model.width: expected a value after =; an empty text is written \"\"");
  EXPECT_THAT(read_error("", {"model..width=3"}), HasSubstr("a dotted key"));
  EXPECT_EQ(
      read_error("[[model.readers]]", {"model.readers.2.threshold=3"}),
      "config: --set model.readers.2.threshold: the list model.readers has 1 element; expected an index from 0 to 1 (1 adds one), got 2");
  EXPECT_THAT(read_error("", {"model.readers.1.threshold=3"}), HasSubstr("has 0 elements; expected an index from 0 to 0"));
  EXPECT_THAT(read_error("[[model.readers]]", {"model.readers.x.threshold=3"}), HasSubstr("got x"));
  EXPECT_THAT(read_error("[[model.readers]]", {"model.readers.99999999999999999999.threshold=3"}), HasSubstr("expected an index"));
  EXPECT_EQ(read_error("[model]\nwidth=3", {"model.width.x=3"}), "config: --set model.width.x: model.width is 3, not a table");
  EXPECT_THAT(read_error("", {"title=\xff\xfe"}), HasSubstr("not UTF-8"));
  EXPECT_EQ(read_error("", {"model.witdh=3"}), "config: unknown key model.witdh; did you mean model.width? (see 'adatape list options')");
}

TEST(Config, ASetThatFailsChangesNothing) {
  ConfigDocument document;
  EXPECT_THROW(document.set("model.readers.1.threshold=3"), Error);
  EXPECT_FALSE(document.has("model"));
}

TEST(Config, LooksUpPaths) {
  ConfigDocument document = ConfigDocument::from_text("[model]\nname = 'vit'\nwidth = 3\n[[model.readers]]\ninput = 'x'");
  EXPECT_EQ(document.text_at("model.name", "none"), "vit");
  EXPECT_EQ(document.text_at("model.readers.0.input", "none"), "x");
  EXPECT_EQ(document.text_at("model.readers.1.input", "none"), "none");
  EXPECT_EQ(document.text_at("model.width.x", "none"), "none");
  EXPECT_EQ(error_of([&] { document.text_at("model.width", ""); }), "config: model.width: expected text, got 3");
  const ConfigDocument copy = document;
  document.set("model.name=other");
  EXPECT_EQ(copy.text_at("model.name", ""), "vit") << "a copy is its own document";
}

TEST(Config, FilesThatCannotBeRead) {
  const std::string path = testing::TempDir() + "config_test.toml";
  std::ofstream(path) << "[model]\nwidth = = 3\n";
  EXPECT_THAT(error_of([&] { ConfigDocument::from_file(path); }), AllOf(HasSubstr("config: "), HasSubstr(path + ":2:9: ")));
  EXPECT_THAT(error_of([&] { ConfigDocument::from_file(path + ".none"); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { ConfigDocument::from_text("a = 1\na = 2"); }), HasSubstr("config: config:2:"));
}

// A header-only toml++ built with assertions aborts here; the shared library that we link must not.
TEST(Config, BracketsThatDoNotMatch) {
  EXPECT_THAT(error_of([] { ConfigDocument::from_text("a = [}"); }), HasSubstr("config: config:1:"));
  EXPECT_EQ(read_error("", {"sizes=[}"}), "config: sizes: expected a list of integer >= 0, got \"[}\"");
}

TEST(Config, TomlRoundTrips) {
  Config config;
  config.fast = true;
  config.title = std::string("q\" b\\ n\n t\t r\r \x01 \x7f é 日本 # \0 end", 36);
  config.sizes = {};
  config.rates = {0.1, 3.0, 1e-300, 1e22, -0.0, INFINITY, -INFINITY, 5e-324, 1.0 / 3.0};
  config.seed = std::numeric_limits<int64_t>::min();
  config.model.tape = std::nullopt;
  config.model.rate = 1.0;
  config.model.readers[1].windows = {Window{4}, Window{5}};
  config.model.readers[1].window.size = 11;
  const std::string text = to_toml(config);
  Config again = read(text);
  EXPECT_EQ(to_toml(again), text);
  EXPECT_EQ(again.title, config.title);
  EXPECT_EQ(again.rates, config.rates);
  EXPECT_TRUE(std::signbit(again.rates[4]));
  EXPECT_EQ(again.seed, config.seed);
  EXPECT_EQ(again.model.tape, std::nullopt);
  ASSERT_EQ(again.model.readers.size(), 2u);
  EXPECT_THAT(again.model.readers[0].windows, IsEmpty());
  EXPECT_EQ(again.model.readers[1].windows.at(1).size, 5);
  EXPECT_EQ(again.model.readers[1].window.size, 11);

  config.model.readers.clear();
  EXPECT_THAT(read(to_toml(config)).model.readers, IsEmpty());
}

TEST(Config, TomlIsCompleteAndInOrder) {
  Config config;
  config.model.readers.resize(1);
  EXPECT_EQ(to_toml(config),
            "fast = false\ntitle = \"run\"\nsizes = [1, 2]\nrates = [0.5]\nseed = 0\n"
            "\n[model]\nwidth = 192\ntape = 10\nrate = 0.001\n"
            "\n[[model.readers]]\nthreshold = 1.0\ninput = \"bank\"\nwindows = []\n"
            "\n[model.readers.window]\nsize = 2\n");
}

TEST(Config, ListsOptions) {
  Config config;
  std::vector<std::string> rows;
  for (const OptionInfo& option : list_options([&](FieldVisitor& visit) { config.fields(visit); })) {
    rows.push_back(option.key + " | " + option.type + " | " + option.default_value);
  }
  EXPECT_THAT(rows,
              ElementsAre("fast | true|false | false", "title | text | \"run\"", "sizes | list of integer >= 0 | [1, 2]",
                          "rates | list of real | [0.5]", "model.width | integer >= 1 | 192", "model.tape | integer >= 1 | \"bank\" | 10",
                          "model.rate | real in [0, 1] | 0.001", "model.readers | list of tables | 2 elements",
                          "model.readers.N.window.size | integer >= 1 | 2", "model.readers.N.threshold | real > 0 | 1.0",
                          "model.readers.N.input | one of: bank, tokens | \"bank\"", "model.readers.N.windows | list of tables | []",
                          "model.readers.N.windows.N.size | integer >= 1 | 2", "seed | integer | 0"));
  EXPECT_THAT(config.model.readers[0].windows, IsEmpty()) << "describing leaves the struct as it was";
}

TEST(NearestWord, SuggestsOnlyWhatIsNear) {
  EXPECT_EQ(nearest_word("widht", {"depth", "width"}), "width");
  EXPECT_EQ(nearest_word("parityy", {"images", "parity"}), "parity");
  EXPECT_EQ(nearest_word("abc", {"xyz", "width"}), "");
  EXPECT_EQ(nearest_word("a", {"b"}), "");
  EXPECT_EQ(nearest_word("", {"b"}), "");
  EXPECT_EQ(nearest_word("x", {}), "");
}

}  // namespace
}  // namespace adatape
