#include "adatape/convert/flax_msgpack.h"

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "adatape/core/files.h"
#include "golden_folder.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::CaseCopy;
using testing::golden;
using ::testing::HasSubstr;

// An array as flax.serialization packs it: ext type 1 around (shape, dtype, bytes).
json packed(const json& shape, const std::string& dtype, std::vector<uint8_t> bytes) {
  return json::binary(json::to_msgpack(json::array({shape, dtype, json::binary(std::move(bytes))})), 1);
}

std::vector<uint8_t> bytes_of(const std::vector<float>& values) {
  const auto* begin = reinterpret_cast<const uint8_t*>(values.data());
  return {begin, begin + values.size() * sizeof(float)};
}

class FlaxMsgpackTest : public ::testing::Test {
 protected:
  NamedTensors read(const std::vector<uint8_t>& bytes) const {
    std::ofstream(folder_ / "x.msgpack", std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return read_flax_msgpack(folder_ / "x.msgpack");
  }
  NamedTensors read(const json& tree) const { return read(json::to_msgpack(tree)); }
  template <class Content>
  std::string error(const Content& content) const {
    return error_of([&] { read(content); });
  }
  CaseCopy folder_;
};

TEST_F(FlaxMsgpackTest, CheckpointsEqualTheWeights) {
  int checked = 0;
  for (const auto& entry : fs::directory_iterator(ADATAPE_SOURCE_DIR "/tests/golden")) {
    if (!fs::exists(entry.path() / "checkpoint.msgpack")) continue;
    const NamedTensors from_msgpack = read_flax_msgpack((entry.path() / "checkpoint.msgpack").string());
    const NamedTensors weights = read_safetensors((entry.path() / "weights.safetensors").string()).tensors;
    ASSERT_EQ(from_msgpack.size(), weights.size()) << entry.path();
    for (const auto& [name, tensor] : weights) {
      ASSERT_EQ(from_msgpack.count(name), 1u) << name;
      EXPECT_TRUE(at::equal(from_msgpack.at(name), tensor)) << name;
    }
    ++checked;
  }
  EXPECT_EQ(checked, 9);
}

TEST_F(FlaxMsgpackTest, TreesWithAndWithoutParams) {
  const json leaf = packed({2, 1}, "float32", bytes_of({1.5f, -2.0f}));
  for (const json& tree : {json{{"params", {{"a", {{"b", leaf}}}}}, {"step", 3}}, json{{"a", {{"b", leaf}}}}}) {
    const NamedTensors tensors = read(tree);
    ASSERT_EQ(tensors.size(), 1u);
    EXPECT_TRUE(at::equal(tensors.at("a/b"), at::tensor({1.5f, -2.0f}).view({2, 1})));
  }
}

TEST_F(FlaxMsgpackTest, DtypesAndEmptyArrays) {
  const NamedTensors tensors = read(json{{"half", packed({1}, "float16", {0x00, 0x3c})},
                                         {"brain", packed({1}, "bfloat16", {0x80, 0x3f})},
                                         {"whole", packed(json::array(), "int32", {7, 0, 0, 0})},
                                         {"none", packed({0, 3}, "float32", {})}});
  EXPECT_EQ(tensors.at("half").item<float>(), 1.0f);
  EXPECT_EQ(tensors.at("brain").item<float>(), 1.0f);
  EXPECT_EQ(tensors.at("whole").dim(), 0);
  EXPECT_EQ(tensors.at("whole").item<int>(), 7);
  EXPECT_EQ(tensors.at("none").sizes(), (at::IntArrayRef{0, 3}));
}

TEST_F(FlaxMsgpackTest, ChunksAreJoined) {
  const json chunked = {{"__msgpack_chunked_array__", true},
                        {"shape", {{"0", 3}, {"1", 1}}},
                        {"chunks", {{"0", packed({2}, "float32", bytes_of({1, 2}))}, {"1", packed({1}, "float32", bytes_of({3}))}}}};
  EXPECT_TRUE(at::equal(read(json{{"w", chunked}}).at("w"), at::tensor({1.f, 2.f, 3.f}).view({3, 1})));
  json missing = chunked, wrong = chunked, none = chunked;
  missing["chunks"].erase("0");
  EXPECT_THAT(error(json{{"w", missing}}), HasSubstr("chunk 0 is missing"));
  wrong["shape"]["0"] = 4;
  EXPECT_THAT(error(json{{"w", wrong}}), HasSubstr("expected 4 numbers, got 3"));
  wrong["shape"] = {{"0", int64_t{1} << 62}, {"1", 8}};
  EXPECT_THAT(error(json{{"w", wrong}}), HasSubstr("the shape overflows"));
  wrong["chunks"] = {{"0", packed({0}, "float32", {})}};
  wrong["shape"] = {{"0", 0}, {"1", int64_t{1} << 62}, {"2", 8}};
  EXPECT_THAT(error(json{{"w", wrong}}), HasSubstr("the shape overflows"));
  none["chunks"] = json::object();
  EXPECT_THAT(error(json{{"w", none}}), HasSubstr("expected chunks, got none"));
}

TEST_F(FlaxMsgpackTest, ChunksOfDifferentDtypesAreAnError) {
  const json chunked = {{"__msgpack_chunked_array__", true},
                        {"shape", {{"0", 2}}},
                        {"chunks", {{"0", packed({1}, "float32", bytes_of({1}))}, {"1", packed({1}, "int32", {1, 0, 0, 0})}}}};
  EXPECT_THAT(error(json{{"w", chunked}}), HasSubstr("chunks of one dtype"));
}

TEST_F(FlaxMsgpackTest, LyingArraysAreNamed) {
  const auto leaf_error = [&](const json& leaf) { return error(json{{"params", {{"dense", {{"kernel", leaf}}}}}}); };
  const std::vector<uint8_t> four = {0, 0, 0, 0};
  EXPECT_THAT(leaf_error(packed({2}, "float32", four)), HasSubstr("dense/kernel: expected 2 numbers of float32, got 4 bytes"));
  EXPECT_THAT(leaf_error(packed({-1}, "float32", four)), HasSubstr("dense/kernel: expected sizes >= 0"));
  EXPECT_THAT(leaf_error(packed({uint64_t{1} << 63}, "float32", four)), HasSubstr("dense/kernel"));
  EXPECT_THAT(leaf_error(packed({1 << 30, 1 << 30, 1 << 30}, "float32", four)), HasSubstr("the shape overflows"));
  EXPECT_THAT(leaf_error(packed({0, int64_t{1} << 40, int64_t{1} << 40}, "float32", {})), HasSubstr("dense/kernel"));
  EXPECT_THAT(leaf_error(packed({int64_t{1} << 40, int64_t{1} << 22}, "float32", {})), HasSubstr("dense/kernel"));
  EXPECT_THAT(leaf_error(packed({1.5}, "float32", four)), HasSubstr("dense/kernel"));
  EXPECT_THAT(leaf_error(packed({1}, "complex64", four)), HasSubstr("got \"complex64\""));
  EXPECT_THAT(leaf_error(packed({1}, "a\nb\x1b[31m", four)), HasSubstr("got \"a?b?[31m\""));  // no line ends, no colours
  EXPECT_THAT(leaf_error(json(3)), HasSubstr("dense/kernel: expected a tree of arrays, got number"));
  EXPECT_THAT(leaf_error(json::binary({1, 2, 3}, 1)), HasSubstr("dense/kernel"));
  EXPECT_THAT(leaf_error(json::binary({1, 2, 3}, 7)), HasSubstr("dense/kernel"));
}

// Longer ones would overflow the stack of what matches names.
TEST_F(FlaxMsgpackTest, NamesAreNotEndless) {
  const json leaf = packed({1}, "float32", bytes_of({1}));
  const auto tree = [&](const std::string& outer, const std::string& inner) {
    json made;
    made[outer][inner] = leaf;
    return made;
  };
  const std::string half(512, 'a');
  EXPECT_EQ(read(tree(half, half.substr(1))).size(), 1u);  // 1024 with the "/"
  EXPECT_THAT(error(tree(half, half)), HasSubstr("...': expected a name of at most 1024 bytes, got 1025"));
  const std::string message = error(tree(std::string(400'000, 'a'), "b"));
  EXPECT_THAT(message, HasSubstr("...': expected a name of at most 1024 bytes, got 400000"));
  EXPECT_LT(message.size(), 400u);
}

TEST_F(FlaxMsgpackTest, NotACheckpoint) {
  EXPECT_THAT(error_of([] { read_flax_msgpack("/nowhere.msgpack"); }), HasSubstr("/nowhere.msgpack"));
  EXPECT_THAT(error(std::vector<uint8_t>{}), HasSubstr("expected msgpack"));
  EXPECT_THAT(error(std::vector<uint8_t>{0x93, 1, 2, 3}), HasSubstr("expected a Flax parameter tree, got array"));
  EXPECT_THAT(error(std::vector<uint8_t>{0x80}), HasSubstr("expected arrays, found none"));
  EXPECT_THAT(error(std::vector<uint8_t>(200000, 0x91)), HasSubstr("expected msgpack"));                        // 200,000 arrays deep
  EXPECT_THAT(error(std::vector<uint8_t>{0xdf, 0xff, 0xff, 0xff, 0xff}), HasSubstr("expected msgpack"));        // a map of 2^32 - 1 entries
  EXPECT_THAT(error(std::vector<uint8_t>{0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0}), HasSubstr("expected msgpack"));  // an array of as many
  EXPECT_THAT(error(std::vector<uint8_t>{0x81, 0xa1, 'a', 0xc9, 0xff, 0xff, 0xff, 0xff, 1}), HasSubstr("msgpack"));  // an ext of 4 GB
  EXPECT_THAT(error(std::vector<uint8_t>{0x81, 0xa1, 0xff, 0xc0}), HasSubstr("x.msgpack"));  // a name that is not UTF-8
}

// A small checkpoint cut at every length and with each byte changed: either it reads or Error, quickly, and never anything else.
TEST_F(FlaxMsgpackTest, DamagedFilesNeverCrash) {
  const json tree = {
      {"params",
       {{"dense", {{"kernel", packed({2, 2}, "float32", bytes_of({1, 2, 3, 4}))}, {"bias", packed({2}, "float32", bytes_of({5, 6}))}}},
        {"big",
         {{"__msgpack_chunked_array__", true},
          {"shape", {{"0", 2}}},
          {"chunks", {{"0", packed({1}, "float32", bytes_of({1}))}, {"1", packed({1}, "float32", bytes_of({2}))}}}}}}}};
  const std::vector<uint8_t> whole = json::to_msgpack(tree);
  ASSERT_EQ(read(whole).size(), 3u);
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_NE(error(std::vector<uint8_t>(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))), "no error") << length;
  }
  std::mt19937 random(1);
  for (size_t place = 0; place < whole.size(); ++place) {
    for (const int value : {0x00, 0xff, 0x80, 0xc7, 0xc9, 0xdd, 0xdf, static_cast<int>(random() & 0xff)}) {
      std::vector<uint8_t> damaged = whole;
      damaged[place] = static_cast<uint8_t>(value);
      const std::string message = error(damaged);  // anything but Error fails the test
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }
}

TEST_F(FlaxMsgpackTest, DamagedPublishedCheckpointsNeverCrash) {
  const std::string content = read_file(golden("u2t_per_example") + "/checkpoint.msgpack");
  const std::vector<uint8_t> whole(content.begin(), content.end());
  std::mt19937 random(2);
  for (int i = 0; i < 60; ++i) {
    std::vector<uint8_t> damaged = whole;
    if (i % 2 == 0) {
      damaged.resize(random() % whole.size());
      EXPECT_NE(error(damaged), "no error");
    } else {
      for (int flips = 0; flips < 3; ++flips) damaged[random() % whole.size()] ^= static_cast<uint8_t>(1u << (random() % 8));
      error(damaged);
    }
  }
}

}  // namespace
}  // namespace adatape
