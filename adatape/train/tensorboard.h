// Event files that TensorBoard opens: TFRecord framing around hand-encoded protobuf messages (Event, Summary).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "adatape/train/append_file.h"

namespace adatape {

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78), as TFRecord uses it.
uint32_t crc32c(std::string_view bytes);

// One events.out.tfevents.<time>.<host> file. Formats: tensorflow/core/util/event.proto, framework/summary.proto, lib/io/record_writer.
class EventWriter {
 public:
  // Makes a new file in folder; its first event is the file version.
  explicit EventWriter(const std::string& folder);

  // A number at a step, e.g. scalar("train/loss", 75, 0.31). Kept as float32.
  void scalar(const std::string& tag, int64_t step, double value);
  // Tells TensorBoard that a run went on from `step`: it forgets what earlier files hold for later steps.
  void resumed_from(int64_t step);
  void flush() { file_->flush(); }
  const std::string& path() const { return file_->path(); }

 private:
  void write(const std::string& event);
  std::unique_ptr<AppendFile> file_;
};

}  // namespace adatape
