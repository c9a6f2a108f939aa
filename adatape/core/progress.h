// Progress of long work on stderr: a line redrawn in place on a terminal, a plain line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace adatape {

class Progress {
 public:
  // total <= 0: unknown. unit: "steps", "examples". quiet: print nothing.
  Progress(std::string title, int64_t total, std::string unit, bool quiet = false);
  ~Progress();
  // done of total; detail is shown as it is ("loss 0.31  accuracy 97.2 %"). Rate and time left are added. Cheap to call often.
  void update(int64_t done, const std::string& detail = "");
  // Ends the line; prints the last state.
  void finish(const std::string& detail = "");
  // Prints a full line above the progress line.
  void note(const std::string& line);

 private:
  void draw(bool last);
  std::string title_, unit_, detail_;
  int64_t total_, done_ = 0, first_done_ = -1;
  bool quiet_, terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, first_update_, drawn_;
};

// "1 h 02 min", "3 min 20 s", "4.2 s".
std::string format_duration(double seconds);
// "12.3 M", "1.20 G": three significant digits with SI prefix.
std::string format_count(double value);
// The same of a unit that takes the prefix: "1.20 GFLOPs", "512 B".
std::string format_count(double value, const std::string& unit);

}  // namespace adatape
