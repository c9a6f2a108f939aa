#include "adatape/core/safetensors.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/safetensors_header.h"

namespace adatape {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian and is read as it is");

constexpr uint64_t kMaximumHeaderBytes = 100'000'000;

// A regular file opened for reading at given offsets.
class InputFile {
 public:
  explicit InputFile(const std::string& path) : path_(path), descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (descriptor_ < 0) fail(std::strerror(errno));
    struct stat status {};
    const bool known = ::fstat(descriptor_, &status) == 0;
    if (!known || !S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      fail(known && S_ISDIR(status.st_mode) ? "it is a folder, expected a safetensors file" : "it is not a regular file");
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }
  ~InputFile() { ::close(descriptor_); }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  uint64_t size() const { return size_; }

  void read(uint64_t offset, void* target, uint64_t bytes) const {
    auto* place = static_cast<char*>(target);
    while (bytes > 0) {
      const ssize_t got = ::pread(descriptor_, place, bytes, static_cast<off_t>(offset));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(std::strerror(errno));
      if (got == 0) fail("it became shorter while it was read");
      place += got;
      offset += static_cast<uint64_t>(got);
      bytes -= static_cast<uint64_t>(got);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& reason) const { throw Error(concat("cannot read ", path_, ": ", reason)); }

  std::string path_;
  int descriptor_;
  uint64_t size_ = 0;
};

at::Tensor read_tensor(const InputFile& file, const SafetensorsEntry& entry, uint64_t data_start) {
  // A byte that is neither 0 nor 1 in a bool tensor would be undefined behaviour: bools come in as bytes and are compared with 0.
  const bool is_bool = entry.dtype == at::kBool;
  at::Tensor tensor = at::empty(entry.shape, is_bool ? at::kByte : entry.dtype);
  file.read(data_start + entry.begin, tensor.data_ptr(), entry.end - entry.begin);
  return is_bool ? tensor.to(at::kBool) : tensor;
}

// The order of the reference implementation: wide dtypes first, so that every tensor starts at a multiple of its element's size.
std::vector<const NamedTensors::value_type*> in_file_order(const std::string& path, const NamedTensors& tensors) {
  std::vector<const NamedTensors::value_type*> ordered;
  for (const auto& named : tensors) {
    const std::string where = concat("safetensors: ", path, ": tensor ", quoted_tensor_name(named.first));
    ADATAPE_CHECK(named.first != "__metadata__", where, "this name is reserved");
    ADATAPE_CHECK(named.second.defined(), where, "it is undefined");
    ADATAPE_CHECK(named.second.layout() == at::kStrided && safetensors_dtype_name(named.second.scalar_type()) != nullptr, where,
                  "expected a dense tensor of F64 F32 F16 BF16 I64 I32 I16 I8 U8 or BOOL, got ", named.second.toString());
    ordered.push_back(&named);
  }
  std::stable_sort(ordered.begin(), ordered.end(),
                   [](const auto* a, const auto* b) { return a->second.element_size() > b->second.element_size(); });
  return ordered;
}

std::string header_text(const std::string& path, const std::vector<const NamedTensors::value_type*>& ordered,
                        const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t begin = 0;
  for (const auto* named : ordered) {
    const at::Tensor& tensor = named->second;
    const uint64_t end = begin + static_cast<uint64_t>(tensor.numel()) * tensor.element_size();
    nlohmann::ordered_json entry;
    entry["dtype"] = safetensors_dtype_name(tensor.scalar_type());
    entry["shape"] = tensor.sizes().vec();
    entry["data_offsets"] = {begin, end};
    header[named->first] = std::move(entry);
    begin = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(concat("safetensors: ", path, ": a tensor name or its metadata is not UTF-8 text"));
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  ADATAPE_CHECK(text.size() <= kMaximumHeaderBytes, concat("safetensors: ", path), "expected a header of at most ", kMaximumHeaderBytes,
                " bytes, got ", text.size());
  return text;
}

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
  const InputFile file(path);
  const std::string where = concat("safetensors: ", path);
  uint64_t header_bytes = 0;
  ADATAPE_CHECK(file.size() >= sizeof(header_bytes), where, "expected at least 8 bytes, got ", file.size(), "; is it a whole file?");
  file.read(0, &header_bytes, sizeof(header_bytes));
  ADATAPE_CHECK(header_bytes <= kMaximumHeaderBytes, where, "expected a header of at most ", kMaximumHeaderBytes, " bytes, got ",
                header_bytes, "; is it a safetensors file?");
  ADATAPE_CHECK(header_bytes <= file.size() - sizeof(header_bytes), where, "its header of ", header_bytes,
                " bytes is longer than the file (", file.size(), " bytes); is it a whole file?");
  std::string text(header_bytes, '\0');
  file.read(sizeof(header_bytes), text.data(), header_bytes);
  const uint64_t data_start = sizeof(header_bytes) + header_bytes;
  SafetensorsHeader header = parse_safetensors_header(path, text, file.size() - data_start);

  SafetensorsFile result;
  result.metadata = std::move(header.metadata);
  const c10::NoGradGuard no_grad;
  for (const auto& [name, entry] : header.entries) {
    try {
      result.tensors.emplace(name, read_tensor(file, entry, data_start));
    } catch (const c10::Error&) {
      throw Error(concat(where, ": tensor ", quoted_tensor_name(name), ": cannot allocate ", entry.end - entry.begin, " bytes"));
    }
  }
  return result;
}

void write_safetensors(const std::string& path, const NamedTensors& tensors, const std::map<std::string, std::string>& metadata) {
  const auto ordered = in_file_order(path, tensors);
  const std::string text = header_text(path, ordered, metadata);
  const c10::NoGradGuard no_grad;
  write_file_atomically(path, [&](std::ostream& stream) {
    const uint64_t header_bytes = text.size();
    stream.write(reinterpret_cast<const char*>(&header_bytes), sizeof(header_bytes));
    stream << text;
    for (const auto* named : ordered) {
      // One at a time: a checkpoint on a GPU needs no second copy of itself here.
      const at::Tensor tensor = named->second.detach().to(at::kCPU).resolve_neg().contiguous();
      stream.write(static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
    }
  });
}

}  // namespace adatape
