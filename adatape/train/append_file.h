// A log file that grows by whole records: lines of JSON, TensorBoard events.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace adatape {

// Records are kept in memory until flush(), so that a fast loop pays for no system call. What was not flushed is lost when the process
// dies.
class AppendFile {
 public:
  // Opens path for appending after cutting it to keep_bytes (a shorter file stays as it is). Error with path and reason.
  AppendFile(const std::string& path, int64_t keep_bytes);
  // Makes a new file; Error when path exists.
  explicit AppendFile(const std::string& path);
  // Flushes, but swallows errors: call flush() where they matter.
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  void append(std::string_view record) { pending_.append(record); }
  // Writes what is pending; Error with path and reason (no space ...).
  void flush();
  // Bytes of the file once all is flushed.
  int64_t size() const { return written_ + static_cast<int64_t>(pending_.size()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
  int64_t written_ = 0;
  std::string pending_;
};

}  // namespace adatape
