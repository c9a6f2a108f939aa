#include "adatape/analysis/frontier.h"

#include <gmock/gmock.h>

#include "adatape/analysis/confusion.h"
#include "adatape/analysis/figures.h"
#include "test_runs.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;
using testing::hand_made_result;
using testing::HandMade;
using testing::make_run;

class FrontierTest : public ::testing::Test {
 protected:
  // A run of these results, for one seed.
  void add(const std::string& label, double accuracy, double speed, double flops, int64_t seed = 1) {
    HandMade run{.label = label, .seed = seed, .accuracy = accuracy};
    const std::string folder = make_run(folder_ / concat(label, seed), run);
    ordered_json result = hand_made_result(run);
    result["examples_per_second"] = speed;
    result["flops"] = flops;
    result["confusion"] = {{8, 2, 0}, {0, 9, 1}, {5, 0, 5}};
    write_file_atomically(folder + "/result.json", result.dump());
    folders_.push_back(folder);
  }
  Comparison comparison() const { return read_comparison(folders_, "adatape compare"); }
  std::vector<std::string> on_frontier(const Comparison& of, const CostAxis& axis) const {
    std::vector<std::string> names;
    for (const FrontierPoint& point : frontier_points(of, axis)) {
      if (point.on_frontier) names.push_back(of.models[point.model].name);
    }
    return names;
  }
  TemporaryFolder folder_;
  std::vector<std::string> folders_;
};

const CostAxis kSpeed = {&FinishedRun::examples_per_second, "examples a second", true};
const CostAxis kFlops = {&FinishedRun::flops, "FLOPs"};

TEST_F(FrontierTest, HoldsWhatNoOtherBeats) {
  add("fast", 0.80, 4000, 50);
  add("slow", 0.90, 1000, 200);
  add("beaten", 0.79, 2000, 60);
  add("wide", 0.90, 1500, 300);  // as good as slow and faster, for more FLOPs
  add("control_best", 0.99, 9000, 10);
  const Comparison of = comparison();
  EXPECT_EQ(on_frontier(of, kSpeed), (std::vector<std::string>{"wide", "fast"}));
  EXPECT_EQ(on_frontier(of, kFlops), (std::vector<std::string>{"fast", "slow"}));
}

TEST_F(FrontierTest, IsAPictureWithAListOfTheModels) {
  add("fast", 0.80, 4000, 50);
  add("slow", 0.90, 1000, 200, 1);
  add("slow", 0.92, 1200, 200, 2);
  add("beaten", 0.79, 2000, 60);
  add("control_best", 0.99, 9000, 10);
  const Chart chart = frontier_chart(comparison(), kSpeed);
  EXPECT_EQ(chart.legend, (std::vector<std::string>{"slow  91.00 %  1.10 k examples a second  mean of 2 seeds  (no other beats it in both)",
                                                    "beaten  79.00 %  2.00 k examples a second  ",
                                                    "fast  80.00 %  4.00 k examples a second  (no other beats it in both)",
                                                    "control_best  99.00 %  9.00 k examples a second  "}));
  ASSERT_EQ(chart.points.size(), 4u);
  EXPECT_DOUBLE_EQ(chart.points[0].x, 1100);
  EXPECT_NEAR(chart.points[0].deviation, 0.0141, 1e-4);
  EXPECT_NEAR(chart.points[0].x_deviation, 141.4, 0.1);
  EXPECT_TRUE(chart.points[0].on_line && chart.points[2].on_line);
  EXPECT_FALSE(chart.points[1].on_line || chart.points[3].on_line);
}

TEST_F(FrontierTest, EqualModelsShareIt) {
  add("one", 0.8, 1000, 100);
  add("other", 0.8, 1000, 100);
  EXPECT_EQ(on_frontier(comparison(), kSpeed).size(), 2u);
}

TEST_F(FrontierTest, SeedsBecomeMeanAndSpread) {
  add("adatape", 0.80, 1000, 100, 1);
  add("adatape", 0.84, 1200, 100, 2);
  add("vit", 0.81, 900, 80);
  const Comparison of = comparison();
  const std::vector<FrontierPoint> points = frontier_points(of, kSpeed);
  ASSERT_EQ(points.size(), 2u);
  EXPECT_NEAR(points[1].accuracy, 0.82, 1e-12);
  EXPECT_NEAR(points[1].cost, 1100, 1e-9);
  EXPECT_NEAR(points[1].cost_deviation, std::sqrt(20000.0), 1e-6);
  const Figure figure = accuracy_against(of, kSpeed);
  EXPECT_EQ(figure["data"][0]["name"], "frontier");
  EXPECT_EQ(figure["data"][0]["x"], ordered_json::parse("[1100.0]"));
  EXPECT_EQ(figure["data"][1]["name"], "adatape");
  EXPECT_NEAR(figure["data"][1]["error_y"]["array"][0].get<double>(), 0.028284, 1e-5);
  EXPECT_EQ(figure["data"][2]["x"], ordered_json::parse("[1000.0,1200.0]"));  // the seeds
  EXPECT_FALSE(figure["data"][3].contains("error_x"));
}

TEST_F(FrontierTest, OneAccuracyHasAnAxisAboutIt) {
  add("vit", 0.98, 900, 80);
  const Figure one = accuracy_against(comparison(), kSpeed);
  EXPECT_NEAR(one["layout"]["yaxis"]["range"][0].get<double>(), 0.93, 1e-9);
  EXPECT_NEAR(one["layout"]["yaxis"]["range"][1].get<double>(), 1.005, 1e-9);
  add("adatape", 0.84, 1200, 100);
  EXPECT_FALSE(accuracy_against(comparison(), kSpeed)["layout"]["yaxis"].contains("range"));
}

TEST_F(FrontierTest, AccuracyByClassHasNamesAndNoLine) {
  const HandMade run{.label = "vit"};
  const std::string folder = make_run(folder_ / "vit", run);
  ordered_json result = hand_made_result(run);
  result["accuracy_by_covariate"] = {{"covariate", "class"},
                                     {"groups",
                                      {{{"value", 0.0}, {"examples", 5}, {"accuracy", 0.5}},
                                       {{"value", 1.0}, {"examples", 5}, {"accuracy", 1.0}},
                                       {{"value", 2.0}, {"examples", 5}, {"accuracy", 1.0}}}}};
  result["confusion"] = {{8, 2, 0}, {0, 9, 1}, {5, 0, 5}};
  result["top5_accuracy"] = 1.0;
  write_file_atomically(folder + "/result.json", result.dump());
  folders_.push_back(folder);
  Comparison of = comparison();
  of.measurements.resize(1);
  of.measurements[0].class_names = {"cat", "<dog>"};
  const Figure figure = accuracy_by_covariate_figure(of, {0});
  EXPECT_EQ(figure["data"][0]["mode"], "markers");
  EXPECT_EQ(figure["data"][0]["x"], ordered_json::parse(R"(["cat","&lt;dog&gt;",2.0])"));
  Page page("title");
  add_confusions(page, of);
  EXPECT_THAT(page.document(), ::testing::Not(::testing::HasSubstr("top-5")));  // of three classes it says nothing
}

TEST(Confusion, BlankDiagonalAndSharesOfTheTrueClass) {
  const Figure figure = confusion_figure({{8, 2, 0}, {0, 0, 0}, {5, 0, 5}}, {"a", "<b>", "c"});
  EXPECT_EQ(figure["data"][0]["z"], ordered_json::parse("[[null,0.2,0.0],[0.0,null,0.0],[0.5,0.0,null]]"));
  EXPECT_EQ(figure["data"][0]["x"][1], "&lt;b&gt;");
  EXPECT_EQ(figure["data"][0]["text"][0][1], "2 of 10");
  for (const char* axis : {"xaxis", "yaxis"}) EXPECT_EQ(figure["layout"][axis]["type"], "category");  // "10" is a name
}

// Of more classes than a matrix is kept for, the other numbers are still told.
TEST_F(FrontierTest, ManyClassesHaveNumbersWithoutAMatrix) {
  const HandMade run{.label = "vit"};
  const std::string folder = make_run(folder_ / "vit", run);
  ordered_json result = hand_made_result(run);
  result["top5_accuracy"] = 0.875;
  result["calibration_error"] = 0.03;
  write_file_atomically(folder + "/result.json", result.dump());
  folders_.push_back(folder);
  Comparison of = comparison();
  of.measurements.resize(1);
  of.measurements[0].class_names.resize(101, "name");
  Page page("title");
  add_confusions(page, of);
  EXPECT_THAT(page.document(), ::testing::HasSubstr("top-5 87.50 %, expected calibration error 3.00 %"));
}

}  // namespace
}  // namespace adatape
