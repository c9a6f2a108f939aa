// What tasks on the bytes of text share: blocks of the text for training, validation and test, and the windows in them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "adatape/core/rng.h"
#include "adatape/tasks/task.h"

namespace adatape {

// Debian's fortunes, fortunes-de, fortunes-es and fortunes-it put their texts here.
constexpr char kFortunes[] = "/usr/share/games/fortunes";
// What to do where a path has no text.
std::string text_hint(const std::string& path);

constexpr int64_t kTextBlock = 2048;

// The text is cut into blocks of 2048 bytes; of each 20, one is validation, one test and 18 training. Training windows begin anywhere in a
// run of training blocks, held-out ones lie side by side in a block and do not overlap.
class TextWindows {
 public:
  // window: bytes of a window, at most a block. Throws Error, in the name of component, where a split would be empty; path is for its text.
  TextWindows(const std::string& component, std::string text, int64_t window, const std::string& path);

  const std::string& text() const { return text_; }
  // Begin and end of the runs of training blocks that hold a window.
  const std::vector<std::pair<int64_t, int64_t>>& training_runs() const { return runs_; }
  int64_t training_bytes() const { return training_bytes_; }
  // Where a training window begins, all places equally likely.
  int64_t draw_start(CounterRng& random) const;
  // Where the windows of validation or test begin; Error on the training split.
  const std::vector<int64_t>& held_out(Split split) const;

 private:
  std::string component_, text_;
  std::vector<std::pair<int64_t, int64_t>> runs_;
  std::vector<int64_t> starts_before_;  // [runs + 1] windows that begin in the runs before
  int64_t training_bytes_ = 0;
  std::vector<int64_t> validation_, test_;
};

// Names of the 256 bytes: printable ASCII as it is, others as \x0a.
std::vector<std::string> byte_names();

}  // namespace adatape
