// The bytes of a file, decompressed where it is gzip.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

namespace adatape {

// Reads front to back in constant memory. Errors (Error) name the file: not readable, damaged or truncated gzip.
class ByteSource {
 public:
  explicit ByteSource(const std::string& path);
  ~ByteSource();
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // Fills up to count bytes and returns how many there were: fewer only at the end of the data.
  size_t read(uint8_t* to, size_t count);
  // The file's name without folders, as errors print it.
  const std::string& name() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace adatape
