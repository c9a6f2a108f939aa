// The numbers of a run over its steps: metrics.jsonl and TensorBoard events, one call for both.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "adatape/train/append_file.h"
#include "adatape/train/tensorboard.h"

namespace adatape {

class MetricsLog {
 public:
  // Opens folder/metrics.jsonl, cut to keep_bytes, and a new event file. resumed_step: where a resumed run goes on.
  MetricsLog(const std::string& folder, int64_t keep_bytes, std::optional<int64_t> resumed_step);

  // One line {"step", "draw", then `numbers`}; in TensorBoard "<group>/<name>" of each number.
  void write(const std::string& group, int64_t step, int64_t draw, const std::map<std::string, double>& numbers);
  void flush();
  // Bytes of metrics.jsonl so far: a checkpoint keeps it, so that a resume drops what came later.
  int64_t size() const { return lines_.size(); }

 private:
  AppendFile lines_;
  EventWriter events_;
};

}  // namespace adatape
