// Reading and writing the safetensors format (8-byte little-endian header length, JSON header, raw tensors).
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace adatape {

// Tensors by name, sorted; what a safetensors file holds.
using NamedTensors = std::map<std::string, at::Tensor>;

struct SafetensorsFile {
  NamedTensors tensors;                         // on the CPU, contiguous; F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL
  std::map<std::string, std::string> metadata;  // "__metadata__"
};

// Reads a whole file. Hostile input is expected: a header longer than the file (up to 2^64 - 1) or than 100 MB, a header that is not JSON
// or nests deeply, offsets that are negative, overflow, overlap, leave holes or do not match shape x dtype, unknown dtypes, duplicate
// names, names of more than 1024 bytes: each throws Error naming file and tensor.
SafetensorsFile read_safetensors(const std::string& path);

// Writes beside the target and renames; tensors may be on any device and need not be contiguous. Data start is aligned to 8 bytes.
void write_safetensors(const std::string& path, const NamedTensors& tensors, const std::map<std::string, std::string>& metadata = {});

}  // namespace adatape
