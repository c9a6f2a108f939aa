#include "adatape/data/read_picture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/data/byte_source.h"
#include "tests/data/idx_files.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

class ReadPictureTest : public ::testing::Test {
 protected:
  static std::string refusal(const std::string& path, int64_t maximum_bytes = kMaximumPictureBytes) {
    try {
      return "no error: " + read_picture_file(path, maximum_bytes);
    } catch (const Error& error) {
      return error.what();
    }
  }
  TemporaryFolder folder_;
};

TEST_F(ReadPictureTest, ReadsPlainFiles) {
  write_bytes(folder_.file("a.png"), "hello");
  EXPECT_EQ(read_picture_file(folder_.file("a.png")), "hello");
  EXPECT_EQ(read_picture_file(folder_.file("a.png"), 5), "hello");
  EXPECT_THAT(refusal(folder_.file("a.png"), 4), HasSubstr("a.png: expected a picture of at most 4 bytes, got 5"));
  EXPECT_THAT(refusal(folder_.file("nowhere.png")), HasSubstr("cannot read "));
  write_bytes(folder_.file("huge.png"), "");
  std::filesystem::resize_file(folder_.file("huge.png"), uintmax_t{1} << 40);  // a hole
  EXPECT_THAT(refusal(folder_.file("huge.png")), HasSubstr("got 1099511627776"));
}

TEST_F(ReadPictureTest, RefusesWhatNeverEnds) {
  ASSERT_EQ(::mkfifo(folder_.file("pipe.png").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder_.file("pipe.png")), HasSubstr("pipe.png: expected a picture in a plain file, got a pipe, device or socket"));
  EXPECT_THAT(refusal("/dev/zero"), HasSubstr("/dev/zero: expected a picture in a plain file"));
  EXPECT_THAT(refusal(folder_.path()), HasSubstr("got a folder"));
  EXPECT_THROW(ByteSource(folder_.file("pipe.png")), Error);
}

}  // namespace
}  // namespace adatape
