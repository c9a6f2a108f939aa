// What a call that has to fail says.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "adatape/core/check.h"

namespace adatape {

inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << "an error is one line";
    return error.what();
  }
  return "no error";
}

}  // namespace adatape
