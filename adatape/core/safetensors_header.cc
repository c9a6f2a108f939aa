#include "adatape/core/safetensors_header.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using nlohmann::json;

constexpr size_t kMaximumRank = 64;  // torch itself stops at 64 in most kernels

struct DtypeName {
  const char* name;
  c10::ScalarType dtype;
};
constexpr DtypeName kDtypeNames[] = {{"F64", c10::ScalarType::Double},    {"F32", c10::ScalarType::Float}, {"F16", c10::ScalarType::Half},
                                     {"BF16", c10::ScalarType::BFloat16}, {"I64", c10::ScalarType::Long},  {"I32", c10::ScalarType::Int},
                                     {"I16", c10::ScalarType::Short},     {"I8", c10::ScalarType::Char},   {"U8", c10::ScalarType::Byte},
                                     {"BOOL", c10::ScalarType::Bool}};

// Takes the parser's events one by one: no tree is built, anything the format does not allow stops the parse where it stands, and
// a name that comes twice is seen (a tree would keep the last one).
class HeaderEvents : public json::json_sax_t {
 public:
  HeaderEvents(const std::string& path, SafetensorsHeader& header) : path_(path), header_(header) {}

  bool null() override { return unexpected("null"); }
  bool boolean(bool) override { return unexpected("true or false"); }
  bool number_integer(number_integer_t value) override { return unexpected(concat(value)); }
  bool number_float(number_float_t, const string_t& text) override { return unexpected(text); }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::kShape) {
      check(value <= uint64_t{INT64_MAX}, "shape entry ", value, " is too large");
      check(entry_->shape.size() < kMaximumRank, "expected at most ", kMaximumRank, " dimensions");
      entry_->shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::kOffsets) {
      check(offsets_ < 2, "expected data_offsets [begin, end], got more than two numbers");
      (offsets_++ == 0 ? entry_->begin : entry_->end) = value;
      return true;
    }
    return unexpected(concat(value));
  }

  bool string(string_t& value) override {
    if (place_ == Place::kMetadata) {
      check(header_.metadata.emplace(key_, value).second, "__metadata__ has ", quoted_tensor_name(key_), " twice");
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return unexpected(quoted_tensor_name(value));
    const auto* found =
        std::find_if(std::begin(kDtypeNames), std::end(kDtypeNames), [&](const DtypeName& known) { return value == known.name; });
    check(found != std::end(kDtypeNames), "unknown dtype ", quoted_tensor_name(value),
          ", expected one of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL");
    entry_->dtype = found->dtype;
    return true;
  }

  bool start_object(size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kRoot;
    } else if (place_ == Place::kRoot) {
      place_ = tensor_ == "__metadata__" ? Place::kMetadata : Place::kTensor;
    } else {
      return unexpected("an object");
    }
    return true;
  }

  bool key(string_t& name) override {
    if (place_ == Place::kRoot) {
      tensor_ = name;
      seen_.clear();
      if (name == "__metadata__") {
        check(!std::exchange(has_metadata_, true), "comes twice");
      } else {
        check(name.size() <= kMaximumNameBytes, "expected a name of at most ", kMaximumNameBytes, " bytes, got ", name.size());
        const auto [position, is_new] = header_.entries.try_emplace(name);
        check(is_new, "comes twice");
        entry_ = &position->second;
        offsets_ = 0;
      }
    } else {
      if (place_ == Place::kTensor) {
        check(name == "dtype" || name == "shape" || name == "data_offsets", "unknown key ", quoted_tensor_name(name),
              ", expected dtype, shape, data_offsets");
        check(seen_.insert(name).second, "has ", name, " twice");
      }
      key_ = name;
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) {
      check(seen_.size() == 3, "expected dtype, shape and data_offsets, got ", seen_.size(), " of them");
      check(entry_->dtype != c10::ScalarType::Undefined, "dtype is missing");
    }
    place_ = place_ == Place::kRoot ? Place::kEnd : Place::kRoot;
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::kTensor || key_ == "dtype") return unexpected("a list");
    place_ = key_ == "shape" ? Place::kShape : Place::kOffsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::kOffsets) check(offsets_ == 2, "expected data_offsets [begin, end], got ", offsets_, " numbers");
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw Error(concat("safetensors: ", path_, ": the header is not JSON at its byte ", position));
  }

 private:
  enum class Place { kStart, kRoot, kTensor, kShape, kOffsets, kMetadata, kEnd };

  template <class... Parts>
  void check(bool condition, const Parts&... parts) const {
    if (condition) return;
    const std::string where = place_ == Place::kStart || place_ == Place::kEnd ? "header" : concat("tensor ", quoted_tensor_name(tensor_));
    throw Error(concat("safetensors: ", path_, ": ", where, ": ", parts...));
  }

  bool unexpected(const std::string& what) const {
    const char* expected = "an object of tensors";
    if (place_ == Place::kRoot) expected = "an object with dtype, shape, data_offsets";
    if (place_ == Place::kTensor) expected = key_ == "dtype" ? "dtype as text" : "a list of integers >= 0";
    if (place_ == Place::kShape || place_ == Place::kOffsets) expected = "integers >= 0";
    if (place_ == Place::kMetadata) expected = "metadata of text values";
    check(false, "expected ", expected, ", got ", what);
    return false;
  }

  const std::string& path_;
  SafetensorsHeader& header_;
  Place place_ = Place::kStart;
  std::string tensor_, key_;
  SafetensorsEntry* entry_ = nullptr;
  int offsets_ = 0;
  std::set<std::string> seen_;
  bool has_metadata_ = false;
};

// Bytes of shape x dtype. Zero dimensions count as one here, because torch multiplies the others for strides.
uint64_t checked_bytes(const std::string& where, const SafetensorsEntry& entry) {
  int64_t elements = 1;
  bool empty = false;
  const auto item_bytes = static_cast<int64_t>(c10::elementSize(entry.dtype));
  for (const int64_t size : entry.shape) {
    empty |= size == 0;
    ADATAPE_CHECK(!__builtin_mul_overflow(elements, std::max<int64_t>(size, 1), &elements), where, "the product of its shape overflows");
  }
  ADATAPE_CHECK(!__builtin_mul_overflow(elements, item_bytes, &elements), where, "the product of its shape overflows");
  return empty ? 0 : static_cast<uint64_t>(elements);
}

}  // namespace

const char* safetensors_dtype_name(c10::ScalarType dtype) {
  for (const DtypeName& known : kDtypeNames) {
    if (known.dtype == dtype) return known.name;
  }
  return nullptr;
}

std::string quoted_tensor_name(const std::string& name) {
  std::string shown = "'";
  for (const char letter : name.substr(0, 100)) shown += static_cast<unsigned char>(letter) < 0x20 || letter == 0x7f ? '?' : letter;
  return shown + (name.size() > 100 ? "...'" : "'");
}

SafetensorsHeader parse_safetensors_header(const std::string& path, std::string_view text, uint64_t data_bytes) {
  SafetensorsHeader header;
  HeaderEvents events(path, header);
  json::sax_parse(text.begin(), text.end(), &events);

  std::vector<std::pair<const std::string*, const SafetensorsEntry*>> in_file_order;
  for (const auto& [name, entry] : header.entries) {
    const std::string where = concat("safetensors: ", path, ": tensor ", quoted_tensor_name(name));
    ADATAPE_CHECK(entry.begin <= entry.end && entry.end <= data_bytes, where, "expected data_offsets in order and within ", data_bytes,
                  " bytes, got [", entry.begin, ", ", entry.end, "]");
    const uint64_t expected = checked_bytes(where, entry);
    ADATAPE_CHECK(entry.end - entry.begin == expected, where, "expected ", expected, " bytes for its shape and dtype, data_offsets give ",
                  entry.end - entry.begin);
    in_file_order.emplace_back(&name, &entry);
  }
  // An empty tensor may stand anywhere between two others, so it sorts before the one that begins where it does.
  std::sort(in_file_order.begin(), in_file_order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->begin, a.second->end) < std::pair(b.second->begin, b.second->end);
  });
  uint64_t covered = 0;
  for (const auto& [name, entry] : in_file_order) {
    ADATAPE_CHECK(entry->begin == covered, concat("safetensors: ", path, ": tensor ", quoted_tensor_name(*name)),
                  entry->begin < covered ? "overlaps the one before it" : "leaves a hole before it", " (begins at ", entry->begin,
                  ", expected ", covered, ")");
    covered = entry->end;
  }
  ADATAPE_CHECK(covered == data_bytes, concat("safetensors: ", path), "tensors cover ", covered, " of ", data_bytes, " data bytes");
  return header;
}

}  // namespace adatape
