// A list of JPEG and PNG pictures with their classes, wherever they lie.
#pragma once

#include <cstdint>
#include <string>

namespace adatape {

// Thread-safe.
class EncodedPictures {
 public:
  virtual ~EncodedPictures() = default;
  virtual int64_t size() const = 0;
  virtual int64_t label(int64_t index) const = 0;
  // For error texts.
  virtual std::string name(int64_t index) const = 0;
  // The bytes of the file. Error when it cannot be read.
  virtual std::string read(int64_t index) const = 0;
};

}  // namespace adatape
