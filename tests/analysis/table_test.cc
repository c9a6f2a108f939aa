#include "adatape/analysis/table.h"

#include <algorithm>
#include <sstream>

#include "adatape/core/number_text.h"
#include "test_runs.h"

namespace adatape {
namespace {

using testing::HandMade;
using ::testing::HasSubstr;
using testing::make_run;
using ::testing::Not;

// The cell of a row under a title, "(no column)" where there is none.
std::string cell(const Table& table, size_t row, const std::string& title) {
  for (size_t c = 0; c < table.columns.size(); ++c) {
    if (table.columns[c].title == title) return table.rows.at(row).at(c);
  }
  return "(no column)";
}

TEST(Table, SeedsBecomeOneRow) {
  const TemporaryFolder folder;
  const RunFolders read = read_run_folders({
      make_run(folder / "1", {.label = "adatape", .seed = 1, .accuracy = 1.0, .training_seconds = 9, .draws = 6}),
      make_run(folder / "2", {.label = "adatape", .seed = 2, .accuracy = 0.98, .training_seconds = 1}),
      make_run(folder / "3", {.label = "adatape", .seed = 3, .accuracy = 0.99, .training_seconds = 2}),
      make_run(folder / "t", {.accuracy = 0.5}),
  });
  const Table table = table_of(gather(read.finished));
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_EQ(cell(table, 0, "accuracy"), "99.00 % (worst 98.00 %)");
  EXPECT_EQ(cell(table, 0, "train s"), "2.0");  // the median, not the mean
  EXPECT_EQ(cell(table, 0, "draws"), "6 1 1");
  EXPECT_EQ(cell(table, 0, "seed"), "1 to 3");
  EXPECT_EQ(cell(table, 0, "tape length"), "4.00 +- 0.50");
  EXPECT_EQ(cell(table, 1, "accuracy"), "50.00 %");
  EXPECT_EQ(cell(table, 1, "tape length"), "-");
  EXPECT_EQ(cell(table, 1, "tokens"), "8.5");
  EXPECT_EQ(cell(table, 1, "FLOPs"), "1.23 M");
  EXPECT_EQ(cell(table, 1, "examples/s"), "4.00 k");
  EXPECT_EQ(cell(table, 1, "chosen"), "(no column)");
  EXPECT_EQ(cell(table, 1, "task"), "(no column)");
}

TEST(Table, SaysHowARunWasChosen) {
  const TemporaryFolder folder;
  const RunFolders read =
      read_run_folders({make_run(folder / "1", {.label = "a", .learning_rate = 0.001}),
                        make_run(folder / "2", {.label = "a", .learning_rate = 0.003}), make_run(folder / "3", {.label = "b"})});
  const Table table = table_of(gather(read.finished));
  EXPECT_EQ(cell(table, 0, "chosen"), "best of 2 learning rates (0.001)");
  EXPECT_EQ(cell(table, 1, "chosen"), "");
  EXPECT_EQ(cell(table, 0, "seed"), "(no column)");
}

TEST(Table, TextIsAligned) {
  const Table table{{{"model", "", false}, {"accuracy", "", true}}, {{"a_long_name", "5 %"}, {"b", "100.00 %"}}};
  EXPECT_EQ(table_text(table),
            "model        accuracy\n"
            "-----------  --------\n"
            "a_long_name       5 %\n"
            "b            100.00 %\n");
}

TEST(NumberText, PercentNeverRoundsUpToAll) {
  EXPECT_EQ(percent_text(1), "100.00 %");
  EXPECT_EQ(percent_text(0.999999), "99.999 %");
  EXPECT_EQ(percent_text(0.99996), "99.996 %");
  EXPECT_EQ(percent_text(0.5), "50.00 %");
  EXPECT_EQ(percent_text(std::nan("")), "-");
}

TEST(NumberText, Groups) {
  EXPECT_EQ(grouped_digits(0), "0");
  EXPECT_EQ(grouped_digits(999), "999");
  EXPECT_EQ(grouped_digits(100000), "100,000");
  EXPECT_EQ(grouped_digits(-1234567), "-1,234,567");
  EXPECT_EQ(counted(1, "run"), "1 run");
  EXPECT_EQ(counted(2, "run"), "2 runs");
  EXPECT_EQ(median_of({3, 1}), 2);
}

}  // namespace
}  // namespace adatape
