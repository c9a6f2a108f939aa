#include "adatape/core/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace adatape {
namespace {

TEST(Signals, TheFirstRaisesTheFlag) {
  install_stop_handlers();
  clear_stop_request();
  EXPECT_FALSE(stop_requested());
  EXPECT_EQ(stop_signal(), 0);
  for (const int number : {SIGINT, SIGTERM}) {
    ::raise(number);
    EXPECT_TRUE(stop_requested());
    EXPECT_EQ(stop_signal(), number);
    clear_stop_request();
    EXPECT_FALSE(stop_requested());
  }
  request_stop();
  EXPECT_TRUE(stop_requested());
  clear_stop_request();
}

TEST(SignalsDeathTest, TheSecondEndsTheProcess) {
  EXPECT_EXIT(
      {
        install_stop_handlers();
        ::raise(SIGTERM);
        ::raise(SIGTERM);
      },
      testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace adatape
