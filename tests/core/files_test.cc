#include "adatape/core/files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "adatape/core/check.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class Files : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              concat("files_test_", ::getpid(), "_", testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  size_t entries() const { return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator())); }
  fs::path folder_;
};

TEST_F(Files, WritesAndReplaces) {
  const std::string large(300000, 'x');
  write_file_atomically(path("a"), "old");
  write_file_atomically(path("a"), std::string_view("n\0w", 3));
  EXPECT_EQ(read_file(path("a")), std::string("n\0w", 3));
  write_file_atomically(path("a"), [&](std::ostream& stream) {
    for (int i = 0; i < 30000; ++i) stream << i << '\n';
    stream << large;
  });
  const std::string content = read_file(path("a"));
  EXPECT_TRUE(content.starts_with("0\n1\n2\n"));
  EXPECT_TRUE(content.ends_with("29999\n" + large));
  EXPECT_EQ(entries(), 1u) << "no partial file may stay";
}

TEST_F(Files, AWriterThatThrowsLeavesTheOldFile) {
  write_file_atomically(path("a"), "old");
  EXPECT_THROW(write_file_atomically(path("a"),
                                     [](std::ostream& stream) {
                                       stream << "new";
                                       throw std::logic_error("stop");
                                     }),
               std::logic_error);
  EXPECT_EQ(read_file(path("a")), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(Files, AFullDiskIsReported) {
  EXPECT_EQ(error_of([] { write_file_atomically("/dev/full", "content"); }),
            "cannot write /dev/full: No space left on device; free space or choose another --output");
  EXPECT_THAT(error_of([] {
                write_file_atomically("/dev/full", [](std::ostream& stream) {
                  stream.exceptions(std::ios::badbit);  // the writer's own exception is not the cause
                  stream << std::string(1 << 20, 'x');
                });
              }),
              HasSubstr("No space left"));
  EXPECT_TRUE(fs::is_character_file("/dev/full")) << "a device is written to, never replaced";
}

TEST_F(Files, WriteErrorsNameThePath) {
  EXPECT_EQ(error_of([&] { write_file_atomically(path("none/a"), "x"); }),
            concat("cannot write ", path("none/a"), ": No such file or directory; make its folder first"));
  EXPECT_EQ(error_of([&] { write_file_atomically(folder_.string(), "x"); }), concat("cannot write ", folder_.string(), ": Is a directory"));
  EXPECT_THAT(error_of([] { write_file_atomically("", "x"); }), HasSubstr("cannot write "));
}

TEST_F(Files, ALinkKeepsPointing) {
  write_file_atomically(path("a"), "old");
  fs::create_symlink("a", path("link"));
  write_file_atomically(path("link"), "new");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(read_file(path("a")), "new");
}

TEST_F(Files, ReadErrorsNameThePath) {
  EXPECT_EQ(error_of([&] { read_file(path("none")); }), concat("cannot read ", path("none"), ": No such file or directory"));
  EXPECT_EQ(error_of([&] { read_file(folder_.string()); }), concat("cannot read ", folder_.string(), ": Is a directory"));
}

TEST_F(Files, MakesFolders) {
  make_directories(path("b/c/d"));
  make_directories(path("b/c/d"));
  EXPECT_TRUE(fs::is_directory(path("b/c/d")));
  write_file_atomically(path("a"), "x");
  EXPECT_THAT(error_of([&] { make_directories(path("a")); }), HasSubstr("cannot make folder " + path("a")));
  EXPECT_THAT(error_of([&] { make_directories(path("a/b")); }), HasSubstr("cannot make folder " + path("a/b")));
}

TEST_F(Files, AFolderAppearsWhole) {
  write_directory_atomically(path("run/"), [&](const std::string& partial) {
    EXPECT_FALSE(fs::exists(path("run")));
    write_file_atomically(partial + "/a", "x");
    make_directories(partial + "/b");
  });
  EXPECT_EQ(read_file(path("run/a")), "x");
  EXPECT_EQ(error_of([&] { write_directory_atomically(path("run"), [](const std::string&) {}); }),
            concat("cannot write ", path("run"), ": it exists; remove it or choose another --output"));
  EXPECT_THROW(write_directory_atomically(path("other"),
                                          [](const std::string& partial) {
                                            write_file_atomically(partial + "/a", "x");
                                            throw std::logic_error("stop");
                                          }),
               std::logic_error);
  EXPECT_EQ(entries(), 1u) << "nothing of the folder that failed may stay";
}

}  // namespace
}  // namespace adatape
