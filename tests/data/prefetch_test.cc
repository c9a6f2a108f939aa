#include "adatape/data/prefetch.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <random>
#include <set>
#include <stdexcept>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

Batch numbered(uint64_t step) {
  Batch batch;
  batch.offsets = {0, static_cast<int64_t>(step)};
  return batch;
}

TEST(Prefetcher, HandsOutBatchesInStepOrder) {
  for (const int64_t workers : {0, 1, 2, 5}) {
    for (const int64_t ahead : {1, 2, 7}) {
      Prefetcher prefetcher(
          [](uint64_t step) {
            std::this_thread::sleep_for(std::chrono::microseconds(step * 7919 % 500));  // later steps are often ready first
            return numbered(step);
          },
          1000, workers, ahead);
      for (int64_t step = 1000; step < 1060; ++step) {
        ASSERT_EQ(prefetcher.next_step(), static_cast<uint64_t>(step));
        ASSERT_EQ(prefetcher.next().offsets[1], step) << workers << ' ' << ahead;
      }
    }
  }
}

TEST(Prefetcher, MakesEachStepOnceAndNoFurtherAheadThanAsked) {
  std::mutex mutex;
  std::multiset<uint64_t> made;
  std::atomic<uint64_t> handed_out = 0, furthest = 0;
  {
    Prefetcher prefetcher(
        [&](uint64_t step) {
          const std::lock_guard<std::mutex> lock(mutex);
          made.insert(step);
          furthest = std::max<uint64_t>(furthest, step + 1);
          return numbered(step);
        },
        0, 3, 4);
    for (; handed_out < 20; ++handed_out) {
      prefetcher.next();
      std::this_thread::sleep_for(1ms);
      EXPECT_LE(furthest, handed_out + 1 + 4);
    }
    for (int i = 0; i < 1000 && furthest < 24; ++i) std::this_thread::sleep_for(1ms);
    EXPECT_EQ(furthest, 24u);  // and it does work ahead
  }
  EXPECT_EQ(made.size(), 24u);
  EXPECT_EQ(std::set<uint64_t>(made.begin(), made.end()).size(), 24u);
}

TEST(Prefetcher, ThrowsAtTheStepThatFailed) {
  for (const int64_t workers : {0, 1, 3}) {
    Prefetcher prefetcher(
        [](uint64_t step) {
          if (step == 5) throw Error("data: step 5 is broken");
          if (step == 6) throw std::runtime_error("must not come first");
          return numbered(step);
        },
        0, workers, 4);
    for (int64_t step = 0; step < 5; ++step) ASSERT_EQ(prefetcher.next().offsets[1], step);
    for (int again = 0; again < 3; ++again) {
      try {
        prefetcher.next();
        FAIL() << "no error";
      } catch (const Error& thrown) {
        EXPECT_STREQ(thrown.what(), "data: step 5 is broken");
      }
      EXPECT_EQ(prefetcher.next_step(), 5u);
    }
  }
}

TEST(Prefetcher, ShutsDownMidWay) {
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> running = 0;
    {
      Prefetcher prefetcher(
          [&](uint64_t step) {
            ++running;
            std::this_thread::sleep_for(std::chrono::microseconds(200));
            --running;
            return numbered(step);
          },
          0, 4, 3);
      for (int i = 0; i < round % 5; ++i) prefetcher.next();
    }
    ASSERT_EQ(running, 0);
  }
}

TEST(Prefetcher, MeasuresWaiting) {
  const auto slow = [](uint64_t step) {
    std::this_thread::sleep_for(20ms);
    return numbered(step);
  };
  Prefetcher starved(slow, 0, 1, 1);
  for (int i = 0; i < 5; ++i) starved.next();
  EXPECT_GT(starved.waited_seconds(), 0.05);
  Prefetcher inline_made(slow, 0, 0, 1);
  inline_made.next();
  EXPECT_GT(inline_made.waited_seconds(), 0.015);
  std::atomic<int> made = 0;
  Prefetcher fed([&](uint64_t step) { return ++made, numbered(step); }, 0, 1, 8);
  for (int i = 0; i < 1000 && made < 8; ++i) std::this_thread::sleep_for(1ms);
  std::this_thread::sleep_for(5ms);
  for (int i = 0; i < 8; ++i) fed.next();
  EXPECT_LT(fed.waited_seconds(), 0.2);
}

TEST(Prefetcher, WorkersRunSingleThreadedAndWithoutAutograd) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> threads = 0;
  std::atomic<bool> grad = true;
  {
    Prefetcher prefetcher(
        [&](uint64_t step) {
          threads = at::get_num_threads();
          grad = at::GradMode::is_enabled();
          return numbered(step);
        },
        0, 1, 1);
    prefetcher.next();
  }
  EXPECT_EQ(threads, 1);
  EXPECT_FALSE(grad);
  EXPECT_EQ(at::get_num_threads(), 2);  // the consumer keeps its own
  EXPECT_TRUE(at::GradMode::is_enabled());
  int other = 0;
  std::thread([&] { other = at::get_num_threads(); }).join();
  EXPECT_EQ(other, 2);
  at::set_num_threads(before);
}

TEST(Prefetcher, RefusesBadSettings) {
  const auto error = [](Prefetcher::Make make, int64_t workers, int64_t ahead) -> std::string {
    try {
      Prefetcher(std::move(make), 0, workers, ahead);
    } catch (const Error& thrown) {
      return thrown.what();
    }
    return "no error";
  };
  EXPECT_EQ(error(numbered, -1, 1), "prefetch: expected workers >= 0, got -1");
  EXPECT_EQ(error(numbered, 1, 0), "prefetch: expected ahead >= 1, got 0");
  EXPECT_THAT(error({}, 1, 1), HasSubstr("expected a function"));
}

}  // namespace
}  // namespace adatape
