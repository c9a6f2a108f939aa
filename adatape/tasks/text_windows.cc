#include "adatape/tasks/text_windows.h"

#include <algorithm>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr int64_t kBlocksOfAll = 20;

// The split of a block of the text.
Split split_of(int64_t block) {
  const int64_t place = block % kBlocksOfAll;
  return place == kBlocksOfAll / 2 - 1 ? Split::kValidation : place == kBlocksOfAll - 1 ? Split::kTest : Split::kTrain;
}

}  // namespace

std::string text_hint(const std::string& path) {
  return path == kFortunes ? "install the Debian packages fortunes, fortunes-de, fortunes-es and fortunes-it, or set task.path"
                           : "set task.path";
}

TextWindows::TextWindows(const std::string& component, std::string text, int64_t window, const std::string& path)
    : component_(component), text_(std::move(text)) {
  const auto size = static_cast<int64_t>(text_.size());
  for (int64_t block = 0; block * kTextBlock < size; ++block) {
    const int64_t begin = block * kTextBlock, end = std::min(size, begin + kTextBlock);
    const Split split = split_of(block);
    if (split != Split::kTrain) {
      std::vector<int64_t>& windows = split == Split::kTest ? test_ : validation_;
      for (int64_t start = begin; start + window <= end; start += window) windows.push_back(start);
    } else if (!runs_.empty() && runs_.back().second == begin) {
      runs_.back().second = end;
    } else {
      runs_.emplace_back(begin, end);
    }
  }
  std::erase_if(runs_, [&](const auto& run) { return run.second - run.first < window; });
  starts_before_.push_back(0);
  for (const auto& [begin, end] : runs_) {
    training_bytes_ += end - begin;
    starts_before_.push_back(starts_before_.back() + end - begin - window + 1);
  }
  ADATAPE_CHECK(!runs_.empty() && !validation_.empty() && !test_.empty(), component_, "expected at least ", kTextBlock * kBlocksOfAll,
                " bytes of text in ", path, ", got ", size);
}

int64_t TextWindows::draw_start(CounterRng& random) const {
  const auto drawn = static_cast<int64_t>(random.below(static_cast<uint64_t>(starts_before_.back())));
  const auto run = std::upper_bound(starts_before_.begin(), starts_before_.end(), drawn) - starts_before_.begin() - 1;
  return runs_[static_cast<size_t>(run)].first + drawn - starts_before_[static_cast<size_t>(run)];
}

const std::vector<int64_t>& TextWindows::held_out(Split split) const {
  ADATAPE_CHECK(split != Split::kTrain, component_, "expected the validation or test split, got the training split");
  return split == Split::kTest ? test_ : validation_;
}

std::vector<std::string> byte_names() {
  std::vector<std::string> names;
  constexpr char kDigits[] = "0123456789abcdef";
  for (int byte = 0; byte < 256; ++byte) {
    const bool shown = byte > 0x20 && byte < 0x7f;
    names.push_back(shown ? std::string(1, static_cast<char>(byte)) : std::string("\\x") + kDigits[byte / 16] + kDigits[byte % 16]);
  }
  return names;
}

}  // namespace adatape
