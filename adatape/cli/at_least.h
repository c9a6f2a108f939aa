// A check of whole numbers whose refusal says what was expected; CLI11's own ranges print their ends with 300 digits.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <string>

namespace adatape::cli {

// "expected 1 or more, got 0".
inline CLI::Validator at_least(int64_t minimum) {
  return {[minimum](const std::string& text) -> std::string {
            int64_t value = 0;
            const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
            const bool whole = code == std::errc() && end == text.data() + text.size();
            if (whole && value >= minimum) return "";
            return "expected " + std::string(whole ? "" : "a whole number, ") + std::to_string(minimum) + " or more, got " + text;
          },
          ""};
}

}  // namespace adatape::cli
