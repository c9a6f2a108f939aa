#include "adatape/analysis/chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "adatape/analysis/canvas.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;

// The dots of a picture of one dot a pixel: dark ones as #.
std::string dots(const Picture& picture) {
  std::string text;
  for (int64_t y = 0; y < picture.height; ++y) {
    for (int64_t x = 0; x < picture.width; ++x) text += picture.row(y)[3 * x] < 128 ? '#' : '.';
    text += '\n';
  }
  return text;
}

TEST(BitmapFont, DrawsLettersOnALine) {
  Canvas canvas(kGlyphRows, text_length(2, 1));
  canvas.text("Ag", 0, 0, 1, {0, 0, 0});
  EXPECT_EQ(dots(canvas.picture),
            ".###.......\n"
            "#...#......\n"
            "#...#..####\n"
            "#####.#...#\n"
            "#...#.#...#\n"
            "#...#.#...#\n"
            "#...#..####\n"
            "..........#\n"
            ".......###.\n");
  Canvas turned(text_length(2, 1), kGlyphRows);  // begins at the bottom
  turned.text("Ag", 0, 0, 1, {0, 0, 0}, true);
  for (int64_t y = 0; y < kGlyphRows; ++y) {
    for (int64_t x = 0; x < 11; ++x) EXPECT_EQ(turned.picture.row(10 - x)[3 * y], canvas.picture.row(y)[3 * x]) << y << " " << x;
  }
}

TEST(BitmapFont, HasAllOfAsciiAndAsksForTheRest) {
  for (int code = ' ' + 1; code < 127; ++code) {
    int64_t set = 0;
    for (int64_t i = 0; i < kGlyphRows * kGlyphColumns; ++i)
      set += glyph_dot(static_cast<char>(code), i / kGlyphColumns, i % kGlyphColumns);
    EXPECT_GE(set, 2) << code;
  }
  EXPECT_EQ(drawable("caf\xc3\xa9\n\xe6\x97\xa5x", 20), "caf???x");  // one for each character
  EXPECT_EQ(drawable("\xff!", 20), "?!");
  EXPECT_EQ(drawable("T-shirt/top", 11), "T-shirt/top");
  EXPECT_EQ(drawable("T-shirt/top", 8), "T-shir..");
}

TEST(Canvas, LeavesOutWhatLiesOutside) {
  Canvas canvas(4, 4);
  canvas.stroke(-3, -3, 9, 9, 2, {0, 0, 0});
  canvas.text("W", 2, -2, 2, {0, 0, 0});
  canvas.copy(Picture(9, 9, 7), -7, -6);
  EXPECT_EQ(canvas.picture.row(1)[3 * 2], 7);
  EXPECT_NE(canvas.picture.row(1)[3 * 3], 7);
  EXPECT_EQ(canvas.picture.row(3)[3 * 3], 0);
}

TEST(ChartTest, TicksAreRoundNumbers) {
  EXPECT_THAT(tick_texts(axis_ticks(0, 0.31, 6), true), ElementsAre("0 %", "5 %", "10 %", "15 %", "20 %", "25 %", "30 %", "35 %"));
  EXPECT_THAT(tick_texts(axis_ticks(2.31, 4.9, 6), false), ElementsAre("2.0", "2.5", "3.0", "3.5", "4.0", "4.5", "5.0"));
  EXPECT_THAT(tick_texts(axis_ticks(-0.2, 0.3, 6), false), ElementsAre("-0.2", "-0.1", "0.0", "0.1", "0.2", "0.3"));
  EXPECT_THAT(tick_texts(axis_ticks(0, 100, 3), false), ElementsAre("0", "50", "100"));
  EXPECT_THAT(axis_ticks(3, 3, 2), ElementsAre(3, 4));
  EXPECT_LE(axis_ticks(1e17, 1e17 + 16, 6).size(), 20u);
}

// Where there is blue, and how much: the middle of it in rows and columns of the picture.
struct Blue {
  int64_t pixels = 0, top = 1 << 30, bottom = 0, left = 1 << 30, right = 0;
};

Blue blue_of(const Picture& picture) {
  Blue blue;
  for (int64_t y = 0; y < picture.height; ++y) {
    for (int64_t x = 0; x < picture.width; ++x) {
      const uint8_t* pixel = picture.row(y) + 3 * x;
      if (pixel[0] != 37 || pixel[2] != 235) continue;
      ++blue.pixels;
      blue.top = std::min(blue.top, y);
      blue.bottom = std::max(blue.bottom, y);
      blue.left = std::min(blue.left, x);
      blue.right = std::max(blue.right, x);
    }
  }
  return blue;
}

TEST(ChartTest, PutsPointsWhereTheyBelong) {
  Chart chart;
  chart.x_title = "x";
  chart.points = {{0, 0}, {1, 10}};
  const Picture two = draw_chart(chart);
  const Blue ends = blue_of(two);
  EXPECT_NEAR(ends.right - ends.left, 720 + 10, 2);  // the plot's corners, and half a disc on each side
  EXPECT_NEAR(ends.bottom - ends.top, 420 + 10, 2);
  chart.points.insert(chart.points.begin() + 1, {0.5, 5, 2});
  const Blue more = blue_of(draw_chart(chart));
  const int64_t middle_y = (ends.top + ends.bottom) / 2, middle_x = (ends.left + ends.right) / 2;
  EXPECT_GT(more.pixels, ends.pixels + 60);  // a disc; bars are thinner than what is counted
  const Picture drawn = draw_chart(chart);
  const auto is_blue = [&](int64_t y, int64_t x) { return drawn.row(y)[3 * x] < 120; };
  EXPECT_TRUE(is_blue(middle_y, middle_x));
  EXPECT_TRUE(is_blue(middle_y - 70, middle_x));  // a bar of 2 of 10 is 84 pixels
  EXPECT_FALSE(is_blue(middle_y - 90, middle_x));
  EXPECT_FALSE(is_blue(middle_y, middle_x - 20));
  chart.joined = true;
  EXPECT_GT(blue_of(draw_chart(chart)).pixels, more.pixels + 500);
  chart.points.push_back({0.7, std::numeric_limits<double>::quiet_NaN()});
  EXPECT_EQ(draw_chart(chart).pixels,
            [&] {
              chart.points.pop_back();
              return draw_chart(chart);
            }()
                .pixels);
}

TEST(ChartTest, ListsItsPointsBelow) {
  Chart chart;
  chart.shares = chart.tight = true;
  chart.points = {{1000, 0.85}, {4000, 0.9, 0.01, 500, "#e8590c", false}};
  const Picture bare = draw_chart(chart);
  chart.legend = {"one", "two, which has a rather long line that tells all about it, its accuracy and its speed"};
  const Picture listed = draw_chart(chart);
  EXPECT_EQ(listed.height - bare.height, 10 + 2 * (2 * kGlyphRows + 10));
  EXPECT_GT(listed.width, bare.width);
  const auto orange = [](const Picture& picture, int64_t from, int64_t to) {
    int64_t count = 0;
    for (int64_t y = from; y < to; ++y) {
      for (int64_t x = 0; x < picture.width; ++x) count += picture.row(y)[3 * x] == 0xe8 && picture.row(y)[3 * x + 2] == 0x0c;
    }
    return count;
  };
  EXPECT_GT(orange(listed, 0, bare.height), orange(bare, 0, bare.height));  // the point's number
  EXPECT_GT(orange(listed, bare.height, listed.height), 20);                // and in the list
  chart.shares = false;
  chart.legend.clear();
  chart.points[1].x_deviation = 0;
  EXPECT_LT(orange(draw_chart(chart), 0, bare.height), orange(bare, 0, bare.height));  // no bar across
}

TEST(ChartTest, TheLineGoesThroughThosePointsThatAreOnIt) {
  Chart chart;
  chart.joined = true;
  chart.points = {{0, 0}, {0.5, 10}, {1, 0}};
  const auto blue_halfway_up = [&] {
    const Picture drawn = draw_chart(chart);
    const Blue all = blue_of(drawn);
    int64_t count = 0;
    for (int64_t x = all.left; x <= all.right; ++x) count += drawn.row((all.top + all.bottom) / 2)[3 * x] == 37;
    return count;
  };
  EXPECT_GE(blue_halfway_up(), 2);  // up and down
  chart.points[1].on_line = false;
  EXPECT_EQ(blue_halfway_up(), 0);
}

TEST(ChartTest, HasRoomForNames) {
  Chart chart;
  for (int i = 0; i < 200; ++i) {
    chart.points.push_back({static_cast<double>(i), 1});
    chart.names.push_back("a rather long name of a class " + std::to_string(i));
  }
  const Picture many = draw_chart(chart);
  EXPECT_GT(many.width, 200 * 20);
  EXPECT_LT(many.height, 900);
  chart.points.resize(2);
  chart.names = {"a", "b"};
  const Picture few = draw_chart(chart);
  EXPECT_LT(few.width, 900);
  EXPECT_LT(few.height, 500);
  EXPECT_GT(draw_chart({}).pixels.size(), 0u);  // nothing to show, nothing to fail
}

}  // namespace
}  // namespace adatape
