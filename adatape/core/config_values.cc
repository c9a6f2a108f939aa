#include "adatape/core/config_values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <string_view>

#include "adatape/core/check.h"

namespace adatape {
namespace {

// A bound for people: 1 and 0.5, not 1.0 and 5e-01.
std::string bound(double value) { return concat(value); }

}  // namespace

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string type_name(const IntegerRange& range) {
  const bool from = range.minimum != IntegerRange{}.minimum, to = range.maximum != IntegerRange{}.maximum;
  if (from && to) return concat("integer in [", range.minimum, ", ", range.maximum, "]");
  if (from) return concat("integer >= ", range.minimum);
  if (to) return concat("integer <= ", range.maximum);
  return "integer";
}

std::string type_name(const RealRange& range) {
  const bool from = std::isfinite(range.minimum), to = std::isfinite(range.maximum);
  const char* open = range.exclusive_minimum ? "(" : "[";
  if (from && to) return concat("real in ", open, bound(range.minimum), ", ", bound(range.maximum), "]");
  if (from) return concat("real ", range.exclusive_minimum ? "> " : ">= ", bound(range.minimum));
  if (to) return concat("real <= ", bound(range.maximum));
  return "real";
}

std::string choice_type_name(const std::vector<std::string>& choices) { return "one of: " + joined(choices); }

std::string integer_or_type_name(const IntegerRange& range, const std::string& word) {
  return concat(type_name(range), " | ", toml_text(word));
}

bool contains(const IntegerRange& range, int64_t value) { return value >= range.minimum && value <= range.maximum; }

bool contains(const RealRange& range, double value) {
  return (range.exclusive_minimum ? value > range.minimum : value >= range.minimum) && value <= range.maximum;
}

std::string toml_real(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  std::array<char, 32> memory{};
  const auto end = std::to_chars(memory.data(), memory.data() + memory.size(), value).ptr;
  std::string text(memory.data(), end);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";  // TOML would read 3 as an integer
  return text;
}

std::string toml_text(const std::string& value) {
  std::string text = "\"";
  for (const char letter : value) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == '"' || letter == '\\') {
      text += {'\\', letter};
    } else if (letter == '\n') {
      text += "\\n";
    } else if (letter == '\t') {
      text += "\\t";
    } else if (letter == '\r') {
      text += "\\r";
    } else if (code < 0x20 || code == 0x7f) {
      constexpr std::string_view kDigits = "0123456789ABCDEF";
      text += std::string("\\u00") + kDigits[code >> 4] + kDigits[code & 15];
    } else {
      text += letter;
    }
  }
  return text + '"';
}

std::string toml_key(const std::string& key) {
  constexpr std::string_view kBare = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
  const bool bare = !key.empty() && key.find_first_not_of(kBare) == std::string::npos;
  return bare ? key : toml_text(key);
}

std::string toml_list(const std::vector<int64_t>& values) {
  std::vector<std::string> parts;
  for (const int64_t value : values) parts.push_back(std::to_string(value));
  return "[" + joined(parts) + "]";
}

std::string toml_list(const std::vector<double>& values) {
  std::vector<std::string> parts;
  for (const double value : values) parts.push_back(toml_real(value));
  return "[" + joined(parts) + "]";
}

std::string dotted(const std::string& prefix, const std::string& name) { return prefix.empty() ? name : prefix + "." + name; }

std::string nearest_word(const std::string& word, const std::vector<std::string>& candidates) {
  // Edit distance with neighbouring letters swapped as one edit (optimal string alignment): "widht" is one slip from "width".
  const auto distance = [&](const std::string& other) {
    const size_t columns = other.size() + 1;
    std::vector<size_t> before(columns), above(columns), row(columns);
    for (size_t j = 0; j < columns; ++j) above[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      row[0] = i;
      for (size_t j = 1; j < columns; ++j) {
        row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (word[i - 1] != other[j - 1])});
        if (i > 1 && j > 1 && word[i - 1] == other[j - 2] && word[i - 2] == other[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
      }
      before.swap(above);
      above.swap(row);
    }
    return above[columns - 1];
  };
  std::string nearest;
  size_t smallest = std::string::npos;
  for (const std::string& candidate : candidates) {
    const size_t longest = std::max(word.size(), candidate.size());
    // Near: at most a third of the letters differ, and never more than three.
    const size_t allowed = std::min<size_t>(3, (longest + 1) / 3);
    if (longest > 100) continue;
    if (const size_t edits = distance(candidate); edits <= allowed && edits < smallest) {
      smallest = edits;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace adatape
