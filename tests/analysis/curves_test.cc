#include "adatape/analysis/curves.h"

#include "test_runs.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

TEST(Curves, ReadsBothKindsOfLine) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "metrics.jsonl",
                        R"({"step":10,"draw":0,"loss":0.7,"training_seconds":0.5}
{"step":20,"draw":0,"validation_accuracy":0.5,"training_seconds":1.5}
{"step":30,"draw":1,"loss":0.1,"training_seconds":2}
)");
  const Curves curves = read_curves(folder.path());
  ASSERT_EQ(curves.training_loss.size(), 2u);
  EXPECT_EQ(curves.training_loss[1].draw, 1);
  EXPECT_EQ(curves.training_loss[1].value, 0.1);
  ASSERT_EQ(curves.validation_accuracy.size(), 1u);
  EXPECT_EQ(curves.validation_accuracy[0].step, 20);
  EXPECT_EQ(curves.validation_accuracy[0].seconds, 1.5);
  EXPECT_TRUE(read_curves(folder / "elsewhere").training_loss.empty());
}

TEST(Curves, NamesADamagedLine) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "metrics.jsonl", "{\"step\":1,\"draw\":0}\n{\"step\":2,\"dr");
  EXPECT_THAT(error_of([&] { read_curves(folder.path()); }), HasSubstr("metrics.jsonl: line 2: expected a JSON object"));
  write_file_atomically(folder / "metrics.jsonl", "{\"step\":1,\"draw\":0}\n[1]\n");
  EXPECT_THAT(error_of([&] { read_curves(folder.path()); }), HasSubstr("line 2"));
}

TEST(Curves, ThinningKeepsTheEndsOfDraws) {
  std::vector<CurvePoint> points;
  for (int64_t i = 0; i < 1000; ++i) points.push_back({.step = i, .draw = i < 333 ? 0 : 1, .value = static_cast<double>(i)});
  const std::vector<CurvePoint> kept = thinned(points, 100);
  EXPECT_LE(kept.size(), 104u);
  std::vector<int64_t> steps;
  for (const CurvePoint& point : kept) steps.push_back(point.step);
  EXPECT_THAT(steps, ::testing::IsSupersetOf({0, 332, 333, 999}));
  EXPECT_EQ(thinned(points, 1000).size(), 1000u);
}

}  // namespace
}  // namespace adatape
