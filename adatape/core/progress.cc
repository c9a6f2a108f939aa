#include "adatape/core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "adatape/core/utf8.h"

namespace adatape {
namespace {

constexpr auto kRedrawInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(10);

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 64> memory{};
  std::snprintf(memory.data(), memory.size(), format, values...);
  return memory.data();
}

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// A line longer than the terminal would wrap, and \r would then redraw its last part only.
std::string fitted(const std::string& line) {
  struct winsize window {};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col < 2) return line;
  return line.substr(0, window.ws_col - 1u);
}

// One write for one line, so that lines of other threads stay whole.
void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

constexpr const char* kClearLine = "\r\x1b[K";

}  // namespace

Progress::Progress(std::string title, int64_t total, std::string unit, bool quiet)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      first_update_(start_),
      drawn_(start_) {
  title_ = for_terminal(title_);  // a label of someone else's configuration, say
}

Progress::~Progress() {
  // Work that threw leaves its line behind; what is printed next must not begin in its middle.
  if (!finished_ && !quiet_ && terminal_ && first_done_ >= 0) print("\n");
}

void Progress::update(int64_t done, const std::string& detail) {
  if (quiet_ || finished_) return;
  const bool first = first_done_ < 0;
  if (first) {
    first_done_ = done;
    first_update_ = std::chrono::steady_clock::now();
  }
  done_ = done;
  detail_ = detail;
  const auto since = std::chrono::steady_clock::now() - drawn_;
  if (terminal_ ? first || since >= kRedrawInterval : since >= kPlainInterval) draw(/*last=*/false);
}

void Progress::finish(const std::string& detail) {
  if (finished_) return;
  finished_ = true;
  if (quiet_) return;
  if (!detail.empty()) detail_ = detail;
  draw(/*last=*/true);
}

void Progress::note(const std::string& line) {
  if (quiet_) return;
  print((terminal_ ? kClearLine : "") + line + "\n");
  if (terminal_ && !finished_ && first_done_ >= 0) draw(/*last=*/false);
}

void Progress::draw(bool last) {
  drawn_ = std::chrono::steady_clock::now();
  std::string line = title_ + "  " + std::to_string(done_);
  if (total_ > 0) line += "/" + std::to_string(total_);
  line += " " + unit_;
  if (total_ > 0) line += formatted("  %.0f %%", std::floor(100.0 * static_cast<double>(done_) / static_cast<double>(total_)));
  // The rate counts from the first update: a resumed run begins at step 500, and that is not a sprint.
  const double seconds = seconds_between(first_update_, drawn_);
  const double rate = first_done_ >= 0 && seconds > 0 ? static_cast<double>(done_ - first_done_) / seconds : 0;
  if (rate > 0) line += "  " + format_count(rate) + " " + unit_ + "/s";
  if (last) {
    line += "  in " + format_duration(seconds_between(start_, drawn_));
  } else if (rate > 0 && total_ > done_) {
    line += "  " + format_duration(static_cast<double>(total_ - done_) / rate) + " left";
  }
  if (!detail_.empty()) line += "  " + detail_;
  print(terminal_ ? kClearLine + fitted(line) + (last ? "\n" : "") : line + "\n");
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "unknown time";
  if (seconds < 59.95) return formatted("%.1f s", seconds);
  const auto whole = static_cast<int64_t>(std::min(seconds, 1e15) + 0.5);
  if (whole < 3600) return formatted("%d min %02d s", static_cast<int>(whole / 60), static_cast<int>(whole % 60));
  const int64_t minutes = (whole + 30) / 60;
  return formatted("%lld h %02d min", static_cast<long long>(minutes / 60), static_cast<int>(minutes % 60));
}

std::string format_count(double value) {
  if (!std::isfinite(value)) return formatted("%f", value);
  constexpr std::array<const char*, 7> kPrefixes = {"", " k", " M", " G", " T", " P", " E"};
  size_t prefix = 0;
  double size = std::fabs(value);
  // 999.5 and above would print as 1000.
  while (size >= 999.5 && prefix + 1 < kPrefixes.size()) {
    size /= 1000;
    ++prefix;
  }
  if (prefix == 0 && size == std::floor(size)) return formatted("%.0f", value);  // a plain count stays one
  const int decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return formatted("%.*f", decimals, std::copysign(size, value)) + kPrefixes[prefix];
}

std::string format_count(double value, const std::string& unit) {
  const std::string count = format_count(value);
  return count + (count.find(' ') == std::string::npos ? " " : "") + unit;
}

}  // namespace adatape
