#include "adatape/analysis/report.h"

#include <regex>

#include "adatape/analysis/html.h"
#include "adatape/analysis/page.h"
#include "adatape/analysis/reading_figures.h"
#include "test_runs.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using testing::small_adatape;
using testing::tiny_config;
using testing::train_run;

// The figures of a page, in order.
std::vector<ordered_json> figures_of(const std::string& page) {
  std::vector<ordered_json> figures;
  const std::string open = "<script type=\"application/json\" id=\"figure-";
  for (size_t at = page.find(open); at != std::string::npos; at = page.find(open, at + 1)) {
    const size_t begin = page.find('>', at) + 1;
    figures.push_back(ordered_json::parse(page.substr(begin, page.find("</script>", begin) - begin)));
  }
  return figures;
}

std::vector<std::string> matches(const std::string& text, const std::string& pattern) {
  std::vector<std::string> found;
  const std::regex expression(pattern);
  for (std::sregex_iterator match(text.begin(), text.end(), expression), end; match != end; ++match) found.push_back((*match)[1]);
  return found;
}

TEST(Html, EscapesTextAndScripts) {
  EXPECT_EQ(escape_html("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
  const std::string script = script_json({{"text", "</script><!-- \xff"}});
  EXPECT_THAT(script, Not(HasSubstr("<")));
  EXPECT_EQ(ordered_json::parse(script)["text"], "</script><!-- \xef\xbf\xbd");
}

TEST(PageTest, HoldsItsScriptWhateverStandsInIt) {
  const Page page("<!-- plotly.js -->");  // a title takes no script's place
  const std::string document = page.document(), whole = self_contained(document, "x = '</SCRIPT><!-- $& \\1';\nif (a<b) y = 0;");
  EXPECT_THAT(whole, HasSubstr("<script>x = '<\\/SCRIPT><\\!-- $& \\1';\nif (a<b) y = 0;</script>\n</head>"));
  EXPECT_THAT(whole, HasSubstr("<title>&lt;!-- plotly.js --&gt;</title>"));
  EXPECT_THAT(error_of([&] { self_contained(whole, "x"); }), HasSubstr("expected a page with a place for plotly.js"));
}

class ReportTest : public ::testing::Test {
 protected:
  Comparison compared(const std::vector<std::string>& folders) const {
    Comparison comparison = read_comparison(folders, "adatape compare");
    measure(comparison, at::kCPU, {.examples = 100, .shown = 2});
    return comparison;
  }
  TemporaryFolder folder_;
};

TEST_F(ReportTest, ShowsWhatExpertsServe) {
  RunConfig config = small_adatape({"model.moe.experts=3", "model.moe.every=1", "model.tape_ffn_width=0"});
  const std::string page = report_html(compared({train_run(folder_ / "experts", std::move(config))}));
  EXPECT_THAT(page, HasSubstr("What the experts do"));
  for (const ordered_json& figure : figures_of(page)) {
    if (figure["layout"]["xaxis"]["title"]["text"] != "expert") continue;
    double sum = 0;
    for (const ordered_json& share : figure["data"][0]["y"]) sum += share.get<double>();
    EXPECT_NEAR(sum, 1, 1e-3);  // nothing is dropped in evaluation
    EXPECT_EQ(figure["data"][0]["y"].size(), 3u);
    return;
  }
  FAIL() << "no figure of the experts";
}

TEST_F(ReportTest, IsWholeAndOffline) {
  const std::string evil = "</script><script src='https://evil.example/x.js'></script>&\"";
  RunConfig config = small_adatape(), control = small_adatape({"label=control_sorted", "model.readers.0.selection=sorted"});
  config.description = evil;
  control.description = "what sorting alone would mean";
  RunConfig baseline = tiny_config();
  baseline.label = "<b>" + evil;
  const Comparison comparison = compared({train_run(folder_ / "a", std::move(config)), train_run(folder_ / "b", std::move(baseline)),
                                          train_run(folder_ / "c", std::move(control))});
  write_report(comparison, folder_ / "out/deep");

  std::string page = read_file(folder_ / "out/deep/report.html");
  EXPECT_FALSE(fs::exists(folder_ / "out/deep/plotly.min.js"));
  const std::string plotly = plotly_script();
  EXPECT_GT(plotly.size(), 1000000u);
  const size_t script = page.find("<script>" + plotly + "</script>");
  ASSERT_NE(script, std::string::npos);
  page.erase(script, std::string("<script></script>").size() + plotly.size());  // what is left is ours
  EXPECT_EQ(ordered_json::parse(read_file(folder_ / "out/deep/results.json"))["runs"].size(), 3u);
  // The page loads nothing.
  EXPECT_THAT(matches(page, "<[^>]*[ \n](?:src|href|srcset|data|action|poster)=[\"']?([^\"' >]*)"), IsEmpty());
  EXPECT_THAT(page, Not(::testing::ContainsRegex("<link|<iframe|@import|url\\(|fetch\\(|XMLHttpRequest")));
  EXPECT_THAT(page, Not(HasSubstr("<b></script>")));
  EXPECT_THAT(page, Not(HasSubstr("<script src='https")));
  EXPECT_THAT(page, HasSubstr(escape_html(evil)));
  EXPECT_THAT(page, HasSubstr("what sorting alone would mean"));
  EXPECT_THAT(page, HasSubstr(escape_html("selection = \"sorted\"")));  // config.toml
  EXPECT_THAT(page, HasSubstr("<option value=\"0\" selected>adatape, seed 1</option>"));

  const std::vector<ordered_json> figures = figures_of(page);
  EXPECT_GE(figures.size(), 14u);
  for (const ordered_json& figure : figures) {
    ASSERT_FALSE(figure["data"].empty()) << figure["layout"]["xaxis"].dump();
    EXPECT_TRUE(figure["layout"]["height"].is_number());
  }
}

TEST_F(ReportTest, CurvesBreakWhereWeightsAreDrawnAnew) {
  const Comparison comparison = compared({train_run(folder_ / "a", small_adatape())});
  ASSERT_EQ(comparison.models[0].first().draws, 2);  // the goal of 100 % after 4 steps is out of reach
  const ordered_json trace = accuracy_curves(comparison, {0}, CurveAxis::kSteps)["data"][0];
  EXPECT_EQ(trace["x"], ordered_json::parse("[4,null,8,12,16]"));
  EXPECT_EQ(trace["marker"]["symbol"][0], "x");
  EXPECT_EQ(trace["text"][2], "draw 2");
  EXPECT_THAT(report_html(comparison), HasSubstr("<td class=\"number\">2</td><td class=\"number\">12</td>"));  // the second draw's steps
}

TEST_F(ReportTest, HistogramAndCovariate) {
  const Comparison comparison = compared({train_run(folder_ / "a", small_adatape())});
  const ordered_json bars = tape_histogram(comparison, {0})["data"][0];
  double sum = 0;
  for (const ordered_json& share : bars["y"]) sum += share.get<double>();
  EXPECT_NEAR(sum, 1, 1e-3);
  const ordered_json figure = tape_by_covariate(comparison, {0});
  EXPECT_EQ(figure["layout"]["xaxis"]["title"]["text"], "number of 1s");
  EXPECT_EQ(figure["data"][0]["x"].size(), figure["data"][0]["error_y"]["array"].size());
}

TEST_F(ReportTest, PonderingAgainstDifficulty) {
  const std::vector<std::string> ponder = {"label=universal", "model.name=universal_transformer", "model.max_steps=3",
                                           "model.halting=per_token", "task.length=4"};
  const Comparison comparison = compared({train_run(folder_ / "a", tiny_config(ponder)), train_run(folder_ / "b", tiny_config())});
  const ordered_json figure = ponder_by_covariate(comparison, {0, 1});
  ASSERT_EQ(figure["data"].size(), 1u);  // the transformer does not halt
  EXPECT_EQ(figure["layout"]["xaxis"]["title"]["text"], "number of 1s");
  EXPECT_EQ(figure["layout"]["yaxis"]["title"]["text"], "steps");
  for (const ordered_json& mean : figure["data"][0]["y"]) EXPECT_LE(mean.get<double>(), 3);
  const ordered_json places = ponder_by_position(comparison, {0, 1});
  ASSERT_EQ(places["data"].size(), 1u);
  EXPECT_EQ(places["data"][0]["x"][0], 1);
  EXPECT_EQ(places["data"][0]["x"].size(), places["data"][0]["error_y"]["array"].size());
  EXPECT_GT(places["data"][0]["x"].size(), 1u);
  EXPECT_THAT(report_html(comparison), HasSubstr("How long is pondered"));
  EXPECT_THAT(report_html(compared({folder_ / "b"})), Not(HasSubstr("How long is pondered")));
}

TEST_F(ReportTest, SweepsTapeBudgets) {
  RunConfig fixed = small_adatape({"label=adatape_fixed", "model.readers.0.halting=none"});
  Comparison comparison = read_comparison(
      {train_run(folder_ / "a", small_adatape()), train_run(folder_ / "b", std::move(fixed)), train_run(folder_ / "c", tiny_config())},
      "adatape compare");
  measure(comparison, at::kCPU, {.examples = 60, .shown = 1, .sweep = true});
  ASSERT_EQ(comparison.measurements[0].budgets.size(), 6u);  // 8 symbols, 2 rows a step: the longest tape is the whole bank
  EXPECT_TRUE(comparison.measurements[1].budgets.empty());
  EXPECT_TRUE(comparison.measurements[2].budgets.empty());
  const ordered_json trace = budget_curves(comparison, {0})["data"][0];
  EXPECT_EQ(trace["x"].front(), 1.0);
  EXPECT_EQ(trace["x"].back(), 4.0);
  EXPECT_THAT(report_html(comparison), HasSubstr("What more tape buys"));
  const ordered_json rows = measured_results_json(comparison)["runs"];
  EXPECT_EQ(rows[0]["tape_budgets"].size(), 6u);
  EXPECT_FALSE(rows[1].contains("tape_budgets") || rows[0].contains("images_per_second"));
}

TEST_F(ReportTest, SpeedsMeasuredAnewTakeThePlaceOfTheRuns) {
  Comparison comparison = read_comparison({train_run(folder_ / "a", small_adatape()), train_run(folder_ / "b", tiny_config())}, "adatape");
  for (FinishedRun& run : comparison.runs) run.examples_per_second = 1;
  const std::string broken = comparison.models[1].first().folder;
  fs::remove(broken + "/model.safetensors");
  measure_speeds(comparison, at::kCPU);
  measure(comparison, at::kCPU, {.examples = 20, .shown = 0});
  const ordered_json rows = measured_results_json(comparison)["runs"];
  EXPECT_GT(comparison.runs[0].examples_per_second, 10);
  EXPECT_EQ(rows[0]["examples_per_second"], comparison.runs[0].examples_per_second);
  EXPECT_EQ(rows[0]["speed_measured"]["batch_size"], kSpeedBatch);
  EXPECT_EQ(comparison.runs[1].examples_per_second, 1);  // could not be opened
  EXPECT_FALSE(rows[1].contains("speed_measured"));
  EXPECT_THAT(report_html(comparison), HasSubstr("timed on one machine"));
}

TEST_F(ReportTest, SaysWhatCouldNotBeMeasured) {
  const std::string run = train_run(folder_ / "a", small_adatape());
  fs::remove(run + "/model.safetensors");
  const Comparison comparison = compared({run});
  EXPECT_THAT(comparison.measurements[0].problem, HasSubstr("model.safetensors is missing"));
  EXPECT_THAT(report_html(comparison), HasSubstr("because the model could not be run"));
}

TEST_F(ReportTest, WritesNothingWithoutPlotly) {
  const Comparison comparison = compared({train_run(folder_ / "a", tiny_config())});
  const std::string error = error_of([&] { write_report(comparison, folder_ / "out", {folder_ / "x.js", folder_ / "y.js"}); });
  EXPECT_THAT(error, HasSubstr("x.js or "));
  EXPECT_THAT(error, HasSubstr("`make setup`"));
  EXPECT_FALSE(fs::exists(folder_ / "out"));
}

TEST(ReadingFigures, ImagePatchesLieWhereTheBankCutThem) {
  ShownExample example;
  example.picture = Picture(28, 28, 128);
  ExampleReading reading;
  reading.patch = 4;
  reading.bank_rows = 49;
  reading.longest = 1;
  reading.steps = {{{8, 48}, {0.75, 0.25}, 0.75}};  // row 8: second line, second patch
  const auto figure = read_places(example, reading, {});
  ASSERT_TRUE(figure.has_value());
  const ordered_json& shapes = (*figure)["layout"]["shapes"];
  ASSERT_EQ(shapes.size(), 2u);
  EXPECT_NEAR(shapes[0]["x0"].get<double>(), 3.5, 0.3);
  EXPECT_NEAR(shapes[0]["x1"].get<double>(), 7.5, 0.3);
  EXPECT_NEAR(shapes[0]["y0"].get<double>(), 3.5, 0.3);
  EXPECT_NEAR(shapes[1]["x1"].get<double>(), 27.5, 0.3);
  EXPECT_EQ((*figure)["data"][0]["z"][0][0], ordered_json::parse("[128,128,128]"));
  reading.resolution = 56;  // the bank sees the picture twice as large: 14 patches a line
  EXPECT_NEAR((*read_places(example, reading, {}))["layout"]["shapes"][0]["x0"].get<double>(), 15.5, 0.3);
  EXPECT_EQ(row_name(example, reading, 15, {}), "patch (1, 1)");
  reading.learnable = true;
  EXPECT_FALSE(read_places(example, reading, {}).has_value());
  EXPECT_EQ(row_name(example, reading, 15, {}), "row 15");
}

TEST(ReadingFigures, SymbolsCarryTheirStep) {
  ShownExample example;
  example.symbols = {0, 2, 1};
  ExampleReading reading;
  reading.bank_rows = 3;
  reading.longest = 3;
  reading.threshold = 1.5;
  reading.steps = {{{2}, {1.0}, 1.0}, {{0}, {1.0}, 2.0}};
  const ordered_json strip = (*read_places(example, reading, {"-1", "0", "<1>"}))["data"][0];
  EXPECT_EQ(strip["z"], ordered_json::parse("[[2,null,1]]"));
  EXPECT_THAT(strip["text"][0][1].get<std::string>(), HasSubstr("&lt;1&gt;"));
  const ordered_json steps = reading_steps(example, reading, {"-1", "0", "1"});
  EXPECT_EQ(steps["data"][0]["text"], ordered_json::parse(R"(["0","-1"])"));
  EXPECT_EQ(steps["data"][1]["y"], ordered_json::parse("[0,1.0,2.0]"));  // the halting sum
  EXPECT_EQ(steps["data"][3]["name"], "threshold 1.5");
}

}  // namespace
}  // namespace adatape
