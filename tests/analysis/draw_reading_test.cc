#include "adatape/analysis/draw_reading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace adatape {
namespace {

constexpr int64_t kScale = 28, kSide = 16 * kScale, kRight = kSide + 8;  // a view of 16 x 16 becomes 448 x 448

// A reading of patches of 4 x 4 pixels: step 1 reads patches 0 and 5, step 2 patch 15.
ExampleReading reading() {
  ExampleReading result;
  result.patch = 4;
  result.bank_rows = 16;
  result.steps = {{{5, 0}, {0.9, 0.1}, 0.9}, {{15}, {1.0}, 1.9}};
  return result;
}

std::vector<int> pixel(const Picture& picture, int64_t y, int64_t x) {
  return {picture.row(y)[3 * x], picture.row(y)[3 * x + 1], picture.row(y)[3 * x + 2]};
}

// A place of a patch that neither outline nor number touches.
std::vector<int> inside(const Picture& picture, int64_t patch) {
  return pixel(picture, patch / 4 * 112 + 12, kRight + patch % 4 * 112 + 12);
}

TEST(DrawReadingTest, ShadesWhatWasReadAndDarkensTheRest) {
  const Picture view(16, 16, 200), drawn = draw_readings(view, {reading()});
  ASSERT_EQ(drawn.height, kSide);
  ASSERT_EQ(drawn.width, 2 * kSide + 8);
  EXPECT_EQ(pixel(drawn, 100, 100), (std::vector<int>{200, 200, 200}));
  EXPECT_EQ(pixel(drawn, 100, kSide + 3), (std::vector<int>{255, 255, 255}));
  for (const int64_t patch : {1, 4, 10, 14}) EXPECT_EQ(inside(drawn, patch), (std::vector<int>{80, 80, 80})) << patch;
  // Blue (59, 82, 190) is the first of two steps, yellow (247, 203, 45) the last: 0.1 + 0.6 x weight of it.
  const auto shaded = [](double colour, double weight) { return 200 + (0.1 + 0.6 * weight) * (colour - 200); };
  EXPECT_NEAR(inside(drawn, 5)[0], shaded(59, 0.9), 2);
  EXPECT_NEAR(inside(drawn, 0)[0], shaded(59, 0.1), 2);
  EXPECT_NEAR(inside(drawn, 15)[2], shaded(45, 1), 2);
  EXPECT_EQ(pixel(drawn, 0, kRight), (std::vector<int>{59, 82, 190}));  // outline of patch 0
  EXPECT_EQ(pixel(drawn, kSide - 1, kRight + kSide - 1), (std::vector<int>{247, 203, 45}));
}

TEST(DrawReadingTest, NumbersStepsInWhite) {
  const Picture drawn = draw_readings(Picture(16, 16, 0), {reading()});
  const auto white = [&](int64_t patch) {
    std::string dots;  // the 3 x 5 dots of a digit: 12 pixels each in a patch of 112
    for (int64_t y = 0; y < 5; ++y) {
      for (int64_t x = 0; x < 3; ++x) {
        const int64_t top = patch / 4 * 112 + (112 - 60) / 2, left = kRight + patch % 4 * 112 + (112 - 36) / 2;
        dots += pixel(drawn, top + y * 12 + 6, left + x * 12 + 6) == std::vector<int>{255, 255, 255} ? '#' : '.';
      }
      dots += '\n';
    }
    return dots;
  };
  EXPECT_EQ(white(0), ".#.\n##.\n.#.\n.#.\n###\n");
  EXPECT_EQ(white(15), "###\n..#\n###\n#..\n###\n");
}

TEST(DrawReadingTest, KeepsTheViewsShape) {
  Picture view(8, 16, 50);
  view.row(7)[3 * 15] = 250;
  ExampleReading one = reading();
  one.steps = {{{5}, {1.0}, 1.0}, {{7}, {1.0}, 2.0}};
  const Picture drawn = draw_readings(view, {one}, 80);
  EXPECT_EQ(drawn.height, 8 * 10);
  EXPECT_EQ(drawn.width, 2 * 160 + 8);
  EXPECT_EQ(drawn.row(70)[3 * 150], 250);
  EXPECT_EQ(drawn.row(69)[3 * 150], 50);
  EXPECT_EQ(drawn.row(70)[3 * 149], 50);
  EXPECT_EQ(pixel(drawn, 79, 168 + 79), (std::vector<int>{59, 82, 190}));  // patch 5: second line, second of four columns
  EXPECT_EQ(pixel(drawn, 79, 168 + 80), (std::vector<int>{20, 20, 20}));
}

TEST(DrawReadingTest, EnlargesUntilNumbersFitAndLeavesLearnableBanksOut) {
  ExampleReading learned = reading(), other = reading();
  learned.learnable = true;
  other.patch = 8;
  other.resolution = 64;  // 8 x 8 patches of 2 pixels of the view each
  const Picture drawn = draw_readings(Picture(16, 300, 9), {learned, other});
  EXPECT_EQ(drawn.height, 16 * 28);
  EXPECT_EQ(drawn.width, 2 * 300 * 28 + 8);
  EXPECT_EQ(draw_readings(Picture(16, 16), {learned}).width, 448);  // the view alone
}

}  // namespace
}  // namespace adatape
