// The JSON header of a safetensors file, checked; shared by safetensors.cc and its reader.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace adatape {

// Names of strangers are matched by std::regex, which recurses once a letter: hundreds of thousands of them overflow the stack.
constexpr size_t kMaximumNameBytes = 1024;

struct SafetensorsEntry {
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the data
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

// "F32" and so on; nullptr for a dtype that the format has no name for.
const char* safetensors_dtype_name(c10::ScalarType dtype);

// Parses and checks a header for a file whose data part has data_bytes. Throws Error that names path and tensor.
SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view json, uint64_t data_bytes);

// A name from a file as an error may print it: quoted, one line, not endless.
std::string quoted_tensor_name(const std::string& name);

}  // namespace adatape
