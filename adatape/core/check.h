// The one exception type of the library and the one macro that throws it.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace adatape {

// Thrown for every error a user can cause: one line that names the component, what was expected, what came and what to do.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(one_line(message)) {}

 private:
  // Names out of a hostile file may hold line ends or a terminal's control characters: each becomes "?".
  static std::string one_line(std::string message) {
    for (char& c : message) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return message;
  }
};

// Thrown when a user asked to stop (Ctrl-C, SIGTERM): training has saved what is worth keeping, predict and generate have given what was
// done, other commands have written nothing.
class Interrupted : public std::runtime_error {
 public:
  explicit Interrupted(const std::string& message) : std::runtime_error(message) {}
};

// Joins its arguments as operator<< prints them.
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

}  // namespace adatape

// ADATAPE_CHECK(heads > 0, "attention", "expected heads > 0, got ", heads): throws Error "attention: expected heads > 0, got 0".
#define ADATAPE_CHECK(condition, component, ...)                                               \
  do {                                                                                         \
    if (!(condition)) throw ::adatape::Error(::adatape::concat(component, ": ", __VA_ARGS__)); \
  } while (false)
