#include "adatape/convert/flax_msgpack.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/safetensors_header.h"

namespace adatape {
namespace {

using Json = nlohmann::json;

// The ext types of flax.serialization.
constexpr int kExtArray = 1;

struct DtypeName {
  const char* name;
  at::ScalarType type;
};
constexpr DtypeName kDtypes[] = {{"float32", at::kFloat}, {"float64", at::kDouble}, {"float16", at::kHalf}, {"bfloat16", at::kBFloat16},
                                 {"int64", at::kLong},    {"int32", at::kInt},      {"int16", at::kShort},  {"int8", at::kChar},
                                 {"uint8", at::kByte},    {"bool", at::kBool}};

// Says no to nesting that would overflow the stack of the recursive parser, before that parser runs.
class DepthGuard : public Json::json_sax_t {
 public:
  bool start_object(std::size_t) override { return ++depth_ <= kDeepest; }
  bool start_array(std::size_t) override { return ++depth_ <= kDeepest; }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool key(string_t&) override { return true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

 private:
  static constexpr int kDeepest = 64;
  int depth_ = 0;
};

// How many numbers a shape holds; nothing where the product overflows, sizes of 0 left out (torch multiplies strides so).
std::optional<int64_t> elements_of(const std::vector<int64_t>& shape) {
  int64_t elements = 1;
  bool empty = false;
  for (const int64_t size : shape) {
    empty |= size == 0;
    if (__builtin_mul_overflow(elements, std::max<int64_t>(size, 1), &elements)) return std::nullopt;
  }
  return empty ? 0 : elements;
}

class Reader {
 public:
  explicit Reader(std::string path) : path_(std::move(path)) {}

  Json parse(const uint8_t* begin, const uint8_t* end, const std::string& what) const {
    DepthGuard guard;
    try {
      ADATAPE_CHECK(Json::sax_parse(begin, end, &guard, Json::input_format_t::msgpack), path_, what,
                    ": expected msgpack as flax.serialization writes it, got something else or a truncated file");
      return Json::from_msgpack(begin, end, /*strict=*/true, /*allow_exceptions=*/true);
    } catch (const Json::exception&) {
      throw Error(concat(path_, ": ", what, ": expected msgpack as flax.serialization writes it, got something else or a truncated file"));
    }
  }

  void walk(const Json& node, const std::string& name, int depth) {
    ADATAPE_CHECK(name.size() <= kMaximumNameBytes, path_, "array ", quoted_tensor_name(name), ": expected a name of at most ",
                  kMaximumNameBytes, " bytes, got ", name.size());
    ADATAPE_CHECK(depth < 64, path_, name, ": expected at most 64 levels of names");
    if (node.is_binary() && node.get_binary().has_subtype() && node.get_binary().subtype() == kExtArray) {
      result[name] = array(node.get_binary(), name);
      return;
    }
    ADATAPE_CHECK(node.is_object(), path_, name.empty() ? "the file" : name, ": expected a tree of arrays, got ", node.type_name());
    if (node.contains("__msgpack_chunked_array__")) {
      result[name] = chunked(node, name);
      return;
    }
    for (const auto& [key, child] : node.items()) walk(child, name.empty() ? key : name + "/" + key, depth + 1);
  }

  NamedTensors result;

 private:
  at::Tensor array(const Json::binary_t& bytes, const std::string& name) const {
    const Json parts = parse(bytes.data(), bytes.data() + bytes.size(), name);
    ADATAPE_CHECK(parts.is_array() && parts.size() == 3 && parts[0].is_array() && parts[1].is_string() && parts[2].is_binary(), path_, name,
                  ": expected (shape, dtype, bytes)");
    const std::string dtype = parts[1].get<std::string>();
    const DtypeName* known = nullptr;
    for (const DtypeName& candidate : kDtypes) {
      if (dtype == candidate.name) known = &candidate;
    }
    ADATAPE_CHECK(known != nullptr, path_, name, ": expected a float, integer or bool dtype, got \"", dtype, "\"");
    const Json::binary_t& data = parts[2].get_binary();
    std::vector<int64_t> shape;
    for (const Json& size : parts[0]) {
      ADATAPE_CHECK(size.is_number_integer() && size >= 0 && size <= int64_t{1} << 40, path_, name, ": expected sizes >= 0 in the shape");
      shape.push_back(size.get<int64_t>());
    }
    const std::optional<int64_t> elements = elements_of(shape);
    ADATAPE_CHECK(elements.has_value(), path_, name, ": the shape overflows");
    size_t bytes_expected = 0;
    ADATAPE_CHECK(!__builtin_mul_overflow(static_cast<size_t>(*elements), c10::elementSize(known->type), &bytes_expected) &&
                      bytes_expected == data.size(),
                  path_, name, ": expected ", *elements, " numbers of ", dtype, ", got ", data.size(), " bytes");
    at::Tensor tensor = at::empty(shape, known->type);
    if (!data.empty()) std::memcpy(tensor.data_ptr(), data.data(), data.size());
    return tensor;
  }

  at::Tensor chunked(const Json& node, const std::string& name) {
    ADATAPE_CHECK(node.contains("shape") && node["shape"].is_object() && node.contains("chunks") && node["chunks"].is_object(), path_, name,
                  ": expected a chunked array with shape and chunks");
    std::vector<at::Tensor> chunks;
    for (size_t i = 0; i < node["chunks"].size(); ++i) {
      const std::string key = std::to_string(i);
      ADATAPE_CHECK(node["chunks"].contains(key) && node["chunks"][key].is_binary(), path_, name, ": chunk ", i, " is missing");
      chunks.push_back(array(node["chunks"][key].get_binary(), name).flatten());
      ADATAPE_CHECK(chunks.back().scalar_type() == chunks.front().scalar_type(), path_, name, ": expected chunks of one dtype, got ",
                    chunks.front().scalar_type(), " and ", chunks.back().scalar_type());
    }
    ADATAPE_CHECK(!chunks.empty(), path_, name, ": expected chunks, got none");
    std::vector<int64_t> shape;
    for (size_t i = 0; i < node["shape"].size(); ++i) {
      const std::string key = std::to_string(i);
      ADATAPE_CHECK(node["shape"].contains(key) && node["shape"][key].is_number_integer(), path_, name, ": shape is incomplete");
      shape.push_back(node["shape"][key].get<int64_t>());
      ADATAPE_CHECK(shape.back() >= 0, path_, name, ": expected sizes >= 0 in the shape, got ", shape.back());
    }
    const std::optional<int64_t> elements = elements_of(shape);
    ADATAPE_CHECK(elements.has_value(), path_, name, ": the shape overflows");
    const at::Tensor flat = at::cat(chunks);
    ADATAPE_CHECK(flat.numel() == *elements, path_, name, ": expected ", *elements, " numbers, got ", flat.numel());
    return flat.reshape(shape);
  }

  std::string path_;
};

}  // namespace

NamedTensors read_flax_msgpack(const std::string& path) {
  const std::string content = read_file(path);
  const auto* begin = reinterpret_cast<const uint8_t*>(content.data());
  Reader reader(path);
  Json root = reader.parse(begin, begin + content.size(), "the file");
  ADATAPE_CHECK(root.is_object(), path, "expected a Flax parameter tree, got ", root.type_name());
  const Json& tree = root.contains("params") ? root["params"] : root;
  reader.walk(tree, "", 0);
  ADATAPE_CHECK(!reader.result.empty(), path, "expected arrays, found none");
  return std::move(reader.result);
}

}  // namespace adatape
