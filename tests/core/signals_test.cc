#include "adatape/core/signals.h"

#include <gtest/gtest.h>
#include <signal.h>

namespace adatape {
namespace {

TEST(Signals, TheFirstRaisesTheFlag) {
  install_stop_handlers();
  clear_stop_request();
  EXPECT_FALSE(stop_requested());
  ::raise(SIGINT);
  EXPECT_TRUE(stop_requested());
  clear_stop_request();
  ::raise(SIGTERM);
  EXPECT_TRUE(stop_requested());
  clear_stop_request();
  EXPECT_FALSE(stop_requested());
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
