#include "adatape/data/idx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "adatape/core/check.h"
#include "tests/data/idx_files.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class Idx : public ::testing::Test {
 protected:
  IdxArray read(const std::string& bytes) {
    write_bytes(path_, bytes);
    return read_idx(path_);
  }
  std::string error(const std::string& bytes) {
    write_bytes(path_, bytes);
    try {
      read_idx(path_);
    } catch (const Error& thrown) {
      return thrown.what();
    }
    return "no error";
  }

  TemporaryFolder folder_;
  std::string path_ = folder_.file("file-idx");
};

TEST_F(Idx, ReadsLabelsAndImagesPlainAndGzip) {
  const std::string labels = idx_bytes({3}, {7, 0, char(255)});
  const std::string images = idx_bytes({2, 1, 3}, {1, 2, 3, 4, 5, 6});
  for (const bool packed : {false, true}) {
    const IdxArray one = read(packed ? gzip(labels) : labels);
    EXPECT_THAT(one.sizes, ElementsAre(3));
    EXPECT_THAT(one.values, ElementsAre(7, 0, 255));
    const IdxArray three = read(packed ? gzip(images) : images);
    EXPECT_THAT(three.sizes, ElementsAre(2, 1, 3));
    EXPECT_THAT(three.values, ElementsAre(1, 2, 3, 4, 5, 6));
  }
}

TEST_F(Idx, ReadsEmptyArrays) {
  EXPECT_TRUE(read(idx_bytes({0}, "")).values.empty());
  EXPECT_TRUE(read(gzip(idx_bytes({0, 28, 28}, ""))).values.empty());
  EXPECT_THAT(error(idx_bytes({0}, "x")), HasSubstr("expected 0 bytes (0), got more"));
}

TEST_F(Idx, ReadsAcrossBufferBorders) {
  std::string payload(300'001, '\0');
  std::mt19937 random(1);
  for (char& byte : payload) byte = static_cast<char>(random());
  const std::string bytes = idx_bytes({300'001}, payload);
  for (const std::string& stored : {bytes, gzip(bytes)}) {
    const IdxArray array = read(stored);
    EXPECT_TRUE(std::equal(array.values.begin(), array.values.end(), payload.begin(), payload.end(),
                           [](uint8_t a, char b) { return a == static_cast<uint8_t>(b); }));
  }
}

TEST_F(Idx, ReadsGzipOfSeveralMembers) {
  const std::string bytes = idx_bytes({5}, "hello");
  EXPECT_EQ(read(gzip(bytes.substr(0, 6)) + gzip("") + gzip(bytes.substr(6))).values.size(), 5u);
}

TEST_F(Idx, NamesFileAndValues) {
  EXPECT_EQ(error(idx_bytes({2, 2, 2}, "1234567")), "data: file-idx: expected 8 bytes (2 x 2 x 2), got 7");
  EXPECT_EQ(error(idx_bytes({2, 2, 2}, "123456789")), "data: file-idx: expected 8 bytes (2 x 2 x 2), got more");
  EXPECT_EQ(error(gzip(idx_bytes({4}, "123"))), "data: file-idx: expected 4 bytes (4), got 3");
  EXPECT_EQ(error(gzip(idx_bytes({4}, "12345"))), "data: file-idx: expected 4 bytes (4), got more");
  EXPECT_EQ(error(""), "data: file-idx: expected an IDX header, got a file that ends inside it");
  EXPECT_EQ(error(idx_bytes({2, 2, 2}, "").substr(0, 9)), "data: file-idx: expected an IDX header, got a file that ends inside it");
}

TEST_F(Idx, RefusesOtherMagic) {
  EXPECT_THAT(error({0, 0, 9, 1, 0, 0, 0, 0}),
              AllOf(StartsWith("data: file-idx: expected an IDX file of bytes"), HasSubstr("got first bytes 0 0 9 1")));
  EXPECT_THAT(error({0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 0}), HasSubstr("got first bytes 0 0 8 2"));
  EXPECT_THAT(error({0, 0, 8, char(255)}), HasSubstr("got first bytes 0 0 8 255"));
  EXPECT_THAT(error("PK\3\4...."), HasSubstr("got first bytes 80 75 3 4"));
}

TEST_F(Idx, RefusesAnnouncementsThatOverflow) {
  EXPECT_THAT(error(idx_bytes({0xffffffff}, "")), HasSubstr("expected at most 2147483648 bytes, got a header that announces 4294967295"));
  EXPECT_THAT(error(idx_bytes({0x10000, 0x10000, 0x10000}, "")), HasSubstr("announces 65536 x 65536"));            // 2^48
  EXPECT_THAT(error(idx_bytes({0x80000000, 0x80000000, 4}, "")), HasSubstr("announces 2147483648 x 2147483648"));  // 2^64: 0 when wrapped
  EXPECT_THAT(error(idx_bytes({0x80000001}, "")), HasSubstr("announces 2147483649"));
}

// 2 GiB announced with a few bytes behind: must fail without taking 2 GiB first.
TEST_F(Idx, DoesNotTrustTheAnnouncedSize) {
  EXPECT_EQ(error(idx_bytes({0x80000000}, "12")), "data: file-idx: expected 2147483648 bytes (2147483648), got 2");
}

// 256 MiB of zeros in a small file that announces 4 bytes: only what is announced is unpacked.
TEST_F(Idx, StopsDecompressingAtTheAnnouncedSize) {
  std::string bomb;
  const std::string zeros = gzip(std::string(size_t{1} << 20, '\0'));
  for (int i = 0; i < 256; ++i) bomb += zeros;
  EXPECT_EQ(error(gzip(idx_bytes({4}, "1234")) + bomb), "data: file-idx: expected 4 bytes (4), got more");
}

TEST_F(Idx, RefusesDamagedGzip) {
  const std::string packed = gzip(idx_bytes({100}, std::string(100, 'a')));
  for (size_t size = 2; size < packed.size(); ++size) {
    EXPECT_EQ(error(packed.substr(0, size)), "data: file-idx: expected a complete gzip file, got one cut off") << size;
  }
  EXPECT_THAT(error(packed + "garbage"), HasSubstr("expected intact gzip data, got \"incorrect header check\""));
  std::string checksum = packed;
  checksum[checksum.size() - 6] = static_cast<char>(checksum[checksum.size() - 6] ^ 1);
  EXPECT_THAT(error(checksum), HasSubstr("expected intact gzip data, got \"incorrect data check\""));
}

TEST_F(Idx, RefusesMissingFilesAndFolders) {
  try {
    read_idx(folder_.file("absent"));
    FAIL() << "no error";
  } catch (const Error& thrown) {
    EXPECT_THAT(thrown.what(), AllOf(StartsWith("data: absent: expected a readable file at "), HasSubstr("No such file")));
  }
  EXPECT_THROW(read_idx(folder_.path()), Error);
}

// Whatever the bytes are: an array that agrees with its header, or an Error; never a crash, a hang or another exception.
TEST_F(Idx, SurvivesMutations) {
  const std::string plain = idx_bytes({3, 4, 5}, std::string(60, 'x'));
  const std::string packed = gzip(plain);
  std::mt19937 random(7);
  int errors = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string bytes = round % 2 == 0 ? plain : packed;
    for (uint32_t change = random() % 4 + 1; change > 0; --change) {
      if (bytes.empty()) break;
      const size_t place = random() % (random() % 2 == 0 ? std::min<size_t>(bytes.size(), 16) : bytes.size());
      switch (random() % 4) {
        case 0:
          bytes[place] = static_cast<char>(random());
          break;
        case 1:
          bytes[place] = static_cast<char>(bytes[place] ^ (1 << random() % 8));
          break;
        case 2:
          bytes.erase(place, random() % 5 + 1);
          break;
        default:
          bytes.insert(place, random() % 5 + 1, static_cast<char>(random()));
      }
    }
    try {
      const IdxArray array = read(bytes);
      int64_t product = 1;
      for (const int64_t size : array.sizes) product *= size;
      ASSERT_TRUE(array.sizes.size() == 1 || array.sizes.size() == 3);
      ASSERT_EQ(product, static_cast<int64_t>(array.values.size()));
    } catch (const Error& thrown) {
      ASSERT_THAT(thrown.what(), StartsWith("data: file-idx: expected "));
      ++errors;
    }
  }
  EXPECT_GT(errors, 1500);
}

}  // namespace
}  // namespace adatape
