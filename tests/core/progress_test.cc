#include "adatape/core/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace adatape {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Captured stderr is a file, so these see the plain form.
std::string printed(const std::function<void()>& work) {
  testing::internal::CaptureStderr();
  work();
  return testing::internal::GetCapturedStderr();
}

TEST(Progress, PlainOutputIsOneLineForShortWork) {
  const std::string text = printed([] {
    Progress progress("training", 1000, "steps");
    for (int step = 500; step <= 1000; ++step) progress.update(step, "loss 0.31");
    progress.finish();
    progress.finish();
    progress.update(7);
  });
  EXPECT_THAT(text, HasSubstr("training  1000/1000 steps  100 %"));
  EXPECT_THAT(text, HasSubstr("steps/s  in "));
  EXPECT_THAT(text, HasSubstr("loss 0.31\n"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(Progress, TitlesDoNotSteerATerminal) {
  const std::string text = printed([] {
    Progress progress("red\x1b[31m", 2, "steps");
    progress.finish();
  });
  EXPECT_THAT(text, ::testing::StartsWith("red\\x1b[31m  0/2 steps"));
}

TEST(Progress, UnknownTotalAndFinalDetail) {
  const std::string text = printed([] {
    Progress progress("reading", 0, "examples");
    progress.update(12, "a");
    progress.finish("accuracy 97.2 %");
  });
  EXPECT_THAT(text, HasSubstr("reading  12 examples  in "));
  EXPECT_THAT(text, HasSubstr("accuracy 97.2 %\n"));
  EXPECT_THAT(text, Not(HasSubstr("/0")));
}

TEST(Progress, NotesAreLinesAndQuietIsSilent) {
  const auto work = [](bool quiet) {
    return printed([&] {
      Progress progress("x", 2, "steps", quiet);
      progress.update(1);
      progress.note("saved");
      progress.update(2);
      if (quiet) progress.finish();
    });
  };
  EXPECT_EQ(work(false), "saved\n");
  EXPECT_EQ(work(true), "");
}

TEST(Progress, Durations) {
  EXPECT_EQ(format_duration(0), "0.0 s");
  EXPECT_EQ(format_duration(4.24), "4.2 s");
  EXPECT_EQ(format_duration(59.96), "1 min 00 s");
  EXPECT_EQ(format_duration(200), "3 min 20 s");
  EXPECT_EQ(format_duration(3599.9), "1 h 00 min");
  EXPECT_EQ(format_duration(3720), "1 h 02 min");
  EXPECT_EQ(format_duration(360000), "100 h 00 min");
  EXPECT_EQ(format_duration(INFINITY), "unknown time");
  EXPECT_EQ(format_duration(-1), "unknown time");
}

TEST(Progress, Counts) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(7), "7");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(0.314), "0.31");
  EXPECT_EQ(format_count(12.34), "12.3");
  EXPECT_EQ(format_count(1000), "1.00 k");
  EXPECT_EQ(format_count(999999), "1.00 M");
  EXPECT_EQ(format_count(12.3e6), "12.3 M");
  EXPECT_EQ(format_count(1.2e9), "1.20 G");
  EXPECT_EQ(format_count(-123e3), "-123 k");
  EXPECT_EQ(format_count(1.2e9, "FLOPs"), "1.20 GFLOPs");
  EXPECT_EQ(format_count(512, "B"), "512 B");
}

}  // namespace
}  // namespace adatape
