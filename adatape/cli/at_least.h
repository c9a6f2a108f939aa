// A bound from below for whole numbers of the command line.
#pragma once

#include <CLI/CLI.hpp>

namespace adatape::cli {

// "expected 1 or more, got 0". (CLI::PositiveNumber and NonNegativeNumber tell the largest double as well, all 309 digits of it.)
CLI::Validator at_least(int64_t minimum);

}  // namespace adatape::cli
