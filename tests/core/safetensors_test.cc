#include "adatape/core/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <torch/types.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/rng.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string test_path() { return testing::TempDir() + concat("safetensors_test_", ::getpid(), ".safetensors"); }

std::string file_bytes(const std::string& header, const std::string& data, uint64_t header_bytes) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &header_bytes, 8);
  return bytes + header + data;
}

SafetensorsFile read_bytes(const std::string& bytes) {
  std::ofstream(test_path(), std::ios::binary) << bytes;
  return read_safetensors(test_path());
}

std::string header_error(const std::string& header, const std::string& data = "") {
  return error_of([&] { read_bytes(file_bytes(header, data, header.size())); });
}

NamedTensors every_dtype() {
  NamedTensors tensors;
  const at::Tensor values = at::arange(6, at::kFloat).reshape({2, 3}) - 2;
  for (const auto dtype :
       {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt, at::kShort, at::kChar, at::kByte, at::kBool}) {
    tensors[concat("t.", dtype)] = values.abs().to(dtype);
  }
  tensors["scalar"] = at::scalar_tensor(3.5);
  tensors["empty"] = at::zeros({0, 4});
  tensors["strided"] = values.t();
  return tensors;
}

TEST(Safetensors, RoundTripsEveryDtype) {
  const NamedTensors tensors = every_dtype();
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"config", "a = \"b\"\n"}};
  write_safetensors(test_path(), tensors, metadata);
  const SafetensorsFile file = read_safetensors(test_path());
  EXPECT_EQ(file.metadata, metadata);
  ASSERT_EQ(file.tensors.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& read = file.tensors.at(name);
    EXPECT_EQ(read.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(read.is_contiguous()) << name;
    EXPECT_TRUE(at::equal(read, tensor)) << name;
  }
}

TEST(Safetensors, DataIsAligned) {
  write_safetensors(test_path(), {{"a", at::zeros({3}, at::kByte)}, {"b", at::zeros({3}, at::kDouble)}});
  const std::string bytes = read_file(test_path());
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(bytes.size(), 8 + header_bytes + 27);
  // Wide dtypes first: b at 0, though a sorts before it.
  EXPECT_THAT(bytes, AllOf(HasSubstr(R"("b":{"dtype":"F64","shape":[3],"data_offsets":[0,24]})"),
                           HasSubstr(R"("a":{"dtype":"U8","shape":[3],"data_offsets":[24,27]})")));
}

TEST(Safetensors, EmptyFileOfNoTensors) {
  write_safetensors(test_path(), {});
  EXPECT_TRUE(read_safetensors(test_path()).tensors.empty());
}

TEST(Safetensors, ReadsAnyOrderAndUnalignedData) {
  const SafetensorsFile file = read_bytes([] {
    const std::string header =
        R"({"late":{"shape":[1],"data_offsets":[1,5],"dtype":"F32"},"z":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})";
    return file_bytes(header, std::string("\x07\0\0\x80\x3f", 5), header.size());
  }());
  EXPECT_EQ(file.tensors.at("late").item<float>(), 1.0f);
  EXPECT_EQ(file.tensors.at("z").item<int>(), 7);
}

TEST(Safetensors, BoolsAreZeroOrOne) {
  const std::string header = R"({"b":{"dtype":"BOOL","shape":[3],"data_offsets":[0,3]}})";
  const at::Tensor read = read_bytes(file_bytes(header, std::string("\0\1\xff", 3), header.size())).tensors.at("b");
  EXPECT_EQ(read.data_ptr<bool>()[2], true);
  EXPECT_EQ(read.sum().item<int>(), 2);
}

TEST(Safetensors, FilesThatAreNone) {
  EXPECT_THAT(error_of([] { read_safetensors("/nowhere/x"); }), HasSubstr("cannot read /nowhere/x: No such file"));
  EXPECT_THAT(error_of([] { read_safetensors(testing::TempDir()); }), HasSubstr("it is a folder"));
  EXPECT_THAT(error_of([] { read_safetensors("/dev/zero"); }), HasSubstr("not a regular file"));
  EXPECT_THAT(error_of([] { read_bytes(""); }), HasSubstr("expected at least 8 bytes, got 0"));
  EXPECT_THAT(error_of([] { read_bytes("1234567"); }), HasSubstr("got 7"));
  EXPECT_THAT(error_of([] { read_bytes(file_bytes("{}", "", ~uint64_t{0})); }), HasSubstr("got 18446744073709551615"));
  EXPECT_THAT(error_of([] { read_bytes(file_bytes("{}", "", 100'000'001)); }), HasSubstr("at most 100000000 bytes"));
  EXPECT_THAT(error_of([] { read_bytes(file_bytes("{}", "", 3)); }), HasSubstr("longer than the file (10 bytes)"));
}

TEST(Safetensors, HeadersThatAreWrong) {
  EXPECT_THAT(header_error(""), HasSubstr("not JSON"));
  EXPECT_THAT(header_error("{"), HasSubstr("not JSON"));
  EXPECT_THAT(header_error("{} x"), HasSubstr("not JSON"));
  EXPECT_THAT(header_error("[]"), HasSubstr("expected an object of tensors, got a list"));
  EXPECT_THAT(header_error("3"), HasSubstr("got 3"));
  EXPECT_THAT(header_error(R"({"a":3})"), HasSubstr("tensor 'a': expected an object with dtype, shape, data_offsets, got 3"));
  EXPECT_THAT(header_error(R"({"a":{}})"), HasSubstr("tensor 'a': expected dtype, shape and data_offsets, got 0 of them"));
  EXPECT_THAT(header_error(R"({"a":{"x":1}})"), HasSubstr("unknown key 'x'"));
  EXPECT_THAT(header_error(R"({"a":{"dtype":"F8"}})"), HasSubstr("tensor 'a': unknown dtype 'F8'"));
  EXPECT_THAT(header_error(R"({"a":{"dtype":["F32"]}})"), HasSubstr("got a list"));
  EXPECT_THAT(header_error(R"({"a":{"dtype":"F32","dtype":"F32"}})"), HasSubstr("has dtype twice"));
  EXPECT_THAT(header_error(R"({"a":{"shape":[-1]}})"), HasSubstr("expected integers >= 0, got -1"));
  EXPECT_THAT(header_error(R"({"a":{"shape":[1.5]}})"), HasSubstr("got 1.5"));
  EXPECT_THAT(header_error(R"({"a":{"shape":[[1]]}})"), HasSubstr("got a list"));
  EXPECT_THAT(header_error(R"({"a":{"shape":[9223372036854775808]}})"), HasSubstr("too large"));
  EXPECT_THAT(header_error(R"({"a":{"data_offsets":[0]}})"), HasSubstr("got 1 numbers"));
  EXPECT_THAT(header_error(R"({"a":{"data_offsets":[0,1,2]}})"), HasSubstr("more than two"));
  EXPECT_THAT(header_error(R"({"__metadata__":{"a":1}})"), HasSubstr("metadata of text values, got 1"));
  EXPECT_THAT(header_error(R"({"__metadata__":{"a":"1","a":"2"}})"), HasSubstr("'a' twice"));
  EXPECT_THAT(header_error(R"({"__metadata__":{},"__metadata__":{}})"), HasSubstr("comes twice"));
  EXPECT_THAT(header_error("{\"a\nb\":3}"), HasSubstr("not JSON"));
  EXPECT_THAT(header_error("{\"\xff\":3}"), HasSubstr("not JSON"));
  EXPECT_THAT(header_error(R"({"a\nb":3})"), HasSubstr("'a?b'"));
}

std::string entry(const std::string& name, const std::string& shape, const std::string& offsets, const std::string& dtype = "U8") {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]}";
}

// Longer ones would overflow the stack of what matches names.
TEST(Safetensors, NamesAreNotEndless) {
  EXPECT_EQ(header_error("{" + entry(std::string(1024, 'a'), "1", "0,1") + "}", "x"), "no error");
  const std::string error = header_error("{" + entry(std::string(400'000, 'a'), "1", "0,1") + "}", "x");
  EXPECT_THAT(error, AllOf(HasSubstr("tensor 'aaa"), HasSubstr("...': expected a name of at most 1024 bytes, got 400000")));
  EXPECT_LT(error.size(), 400u);
}

TEST(Safetensors, OffsetsThatAreWrong) {
  const std::string data(8, 'x');
  const std::string a = entry("a", "4", "0,4"), b = entry("b", "4", "4,8");
  EXPECT_EQ(header_error("{" + b + "," + a + "}", data), "no error");
  EXPECT_EQ(header_error("{" + a + "," + entry("none", "0", "4,4") + "," + b + "}", data), "no error");
  EXPECT_THAT(header_error("{" + a + "," + a + "}", data), HasSubstr("tensor 'a': comes twice"));
  EXPECT_THAT(header_error("{" + a + "}", data), HasSubstr("tensors cover 4 of 8"));
  EXPECT_THAT(header_error("{" + b + "}", data), HasSubstr("leaves a hole"));
  EXPECT_THAT(header_error("{" + a + "," + entry("b", "5", "3,8") + "}", data), HasSubstr("tensor 'b': overlaps"));
  EXPECT_THAT(header_error("{" + a + "," + entry("b", "5", "4,9") + "}", data), HasSubstr("within 8 bytes, got [4, 9]"));
  EXPECT_THAT(header_error("{" + entry("a", "4", "4,0") + "}", data), HasSubstr("in order"));
  EXPECT_THAT(header_error("{" + entry("a", "3", "0,8") + "}", data),
              HasSubstr("expected 3 bytes for its shape and dtype, data_offsets give 8"));
  EXPECT_THAT(header_error("{" + entry("a", "3", "0,8", "F32") + "}", data), HasSubstr("expected 12 bytes"));
  EXPECT_THAT(header_error("{" + entry("a", "4294967296,4294967296", "0,8") + "}", data), HasSubstr("overflows"));
  EXPECT_THAT(header_error("{" + entry("a", "9223372036854775807", "0,8", "F64") + "}", data), HasSubstr("overflows"));
  EXPECT_THAT(header_error("{" + entry("a", "0,4294967296,4294967296", "0,0") + "}"), HasSubstr("overflows"));
  EXPECT_THAT(header_error("{" + entry("a", "1", "18446744073709551615,0") + "}", data), HasSubstr("in order"));
  std::string ones = "1";
  for (int i = 0; i < 100; ++i) ones += ",1";
  EXPECT_THAT(header_error("{" + entry("a", ones, "0,1") + "}", "x"), HasSubstr("at most 64 dimensions"));
}

TEST(Safetensors, ADepthBombIsRefused) {
  const std::string deep(2'000'000, '[');
  EXPECT_THAT(header_error("{\"a\":" + deep), HasSubstr("got a list"));
  EXPECT_THAT(header_error(deep), HasSubstr("got a list"));
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_THAT(header_error(objects), HasSubstr("unknown key 'a'"));
}

TEST(Safetensors, TensorsThatCannotBeWritten) {
  EXPECT_THAT(error_of([] { write_safetensors(test_path(), {{"a", at::Tensor()}}); }), HasSubstr("tensor 'a': it is undefined"));
  EXPECT_THAT(error_of([] {
                write_safetensors(test_path(), {{"a", at::zeros({1}, at::kComplexFloat)}});
              }),
              HasSubstr("expected a dense tensor"));
  EXPECT_THAT(error_of([] {
                write_safetensors(test_path(), {{"a", at::zeros({2, 2}).to_sparse()}});
              }),
              HasSubstr("expected a dense tensor"));
  EXPECT_THAT(error_of([] { write_safetensors(test_path(), {{"__metadata__", at::zeros({1})}}); }), HasSubstr("reserved"));
  EXPECT_THAT(error_of([] { write_safetensors(test_path(), {{"\xff", at::zeros({1})}}); }), HasSubstr("not UTF-8"));
  EXPECT_THAT(error_of([] { write_safetensors("/dev/full", {{"a", at::zeros({100000})}}); }), HasSubstr("No space left on device"));
  EXPECT_THAT(error_of([] { write_safetensors("/nowhere/x", {}); }), HasSubstr("cannot write /nowhere/x"));
}

TEST(Safetensors, AParameterThatNeedsGradIsWritten) {
  const at::Tensor parameter = at::ones({2}).set_requires_grad(true);
  write_safetensors(test_path(), {{"a", parameter}});
  EXPECT_FALSE(read_safetensors(test_path()).tensors.at("a").requires_grad());
}

// A file that never touches a disk: 2000 of them take a blink.
SafetensorsFile read_in_memory(const std::string& bytes) {
  const int descriptor = ::memfd_create("safetensors_test", 0);
  EXPECT_EQ(::write(descriptor, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  const auto closed = std::shared_ptr<void>(nullptr, [&](void*) { ::close(descriptor); });
  return read_safetensors(concat("/proc/self/fd/", descriptor));
}

// Every damaged file is either read or refused with an Error; anything else ends the test program.
TEST(Safetensors, SurvivesMutations) {
  write_safetensors(test_path(), {{"a", at::ones({2, 3})}, {"b", at::ones({5}, at::kBool)}, {"c", at::ones({}, at::kLong)}}, {{"k", "v"}});
  const std::string valid = read_file(test_path());
  CounterRng rng(1, 0, 0, 0);
  int loaded = 0, refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = valid;
    const uint64_t edits = 1 + rng.below(4);
    for (uint64_t edit = 0; edit < edits && !bytes.empty(); ++edit) {
      const size_t at = rng.below(bytes.size());
      switch (rng.below(5)) {
        case 0:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.below(8)));
          break;
        case 1:
          bytes[at] = static_cast<char>(rng.below(256));
          break;
        case 2:
          bytes[at] = "{}[]\",:0129-e"[rng.below(13)];
          break;
        case 3:
          bytes.erase(at, 1 + rng.below(8));
          break;
        default:
          bytes.resize(at);
          break;
      }
    }
    try {
      const SafetensorsFile file = read_in_memory(bytes);
      ++loaded;
      for (const auto& [name, tensor] : file.tensors) EXPECT_LE(tensor.nbytes(), bytes.size()) << name;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_EQ(loaded + refused, 2000);
  EXPECT_GT(loaded, 20) << "damage to the data alone still loads";
  EXPECT_GT(refused, 500);
}

}  // namespace
}  // namespace adatape
