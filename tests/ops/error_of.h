// What a call that has to fail says.
#pragma once

#include <functional>
#include <string>

#include "adatape/core/check.h"

namespace adatape::ops {

inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace adatape::ops
