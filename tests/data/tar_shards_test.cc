#include "adatape/data/tar_shards.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "adatape/core/check.h"
#include "tests/data/idx_files.h"
#include "tests/data/tar_files.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TarShardsTest : public ::testing::Test {
 protected:
  std::string shard(const std::string& bytes, const std::string& name = "a.tar") const {
    write_bytes(folder_.file(name), bytes);
    return folder_.file(name);
  }
  std::string refusal(const std::string& bytes) const {
    try {
      TarShards{{shard(bytes)}};
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  TemporaryFolder folder_;
};

TEST_F(TarShardsTest, IndexesSamplesOfSeveralShards) {
  const std::string long_key(150, 'k'), pax = "30 path=deep/er/than/a/k3.png\n";
  const std::string one = tar_member("folder", "", '5') + tar_member("folder/k1.jpg", "first picture") +
                          tar_member("folder/k1.cls", "7\n") + tar_member("folder/k1.json", "{}") + tar_member("k2.cls", " 0") +
                          tar_member("k2.JPEG", std::string(700, 'x')) + tar_end();
  const std::string two = tar_member("././@LongLink", long_key + ".jpg" + '\0', 'L') + tar_member(long_key.substr(0, 100), "long") +
                          tar_member("././@LongLink", long_key + ".cls" + '\0', 'L') + tar_member(long_key.substr(0, 100), "3") +
                          tar_member("pax", pax, 'x') + tar_member("short.png", "by pax") +
                          tar_member("k3.cls", "12", '0', "deep/er/than/a") + tar_end();
  const TarShards shards({shard(one), shard(two, "b.tar")});
  ASSERT_EQ(shards.size(), 4);
  EXPECT_EQ(shards.read(0), "first picture");
  EXPECT_EQ(shards.label(0), 7);
  EXPECT_EQ(shards.name(0), folder_.file("a.tar: folder/k1"));
  EXPECT_EQ(shards.read(1), std::string(700, 'x'));
  EXPECT_EQ(shards.label(1), 0);
  EXPECT_EQ(shards.key(2), long_key);
  EXPECT_EQ(shards.read(2), "long");
  EXPECT_EQ(shards.label(2), 3);
  EXPECT_EQ(shards.name(3), folder_.file("b.tar: deep/er/than/a/k3"));
  EXPECT_EQ(shards.read(3), "by pax");
  EXPECT_EQ(shards.label(3), 12);
}

TEST_F(TarShardsTest, SaysWhatIsWrong) {
  const std::string good = tar_member("k.jpg", "picture") + tar_member("k.cls", "1") + tar_end();
  EXPECT_EQ(refusal(good), "no error");
  EXPECT_THAT(refusal("hello" + std::string(600, 'x')),
              AllOf(HasSubstr("a.tar: expected a plain tar file, got other data at 0"), HasSubstr("unpacked first")));
  EXPECT_THAT(refusal(tar_member("k.jpg", std::string(600, 'x')).substr(0, 900)), HasSubstr("cut off within the member at 0"));
  EXPECT_THAT(refusal(tar_member("k.jpg", "picture") + tar_end()), HasSubstr("of key k, found no class"));
  EXPECT_THAT(refusal(tar_member("k.cls", "1") + tar_end()), HasSubstr("of key k, found no picture"));
  EXPECT_THAT(refusal(tar_member("k.jpg", "a") + tar_member("k.png", "b") + tar_end()),
              HasSubstr("expected one picture of key k, got two"));
  for (const char* text : {"cat", "", "-1", "1 2", "99999999999", "17000000"}) {
    EXPECT_THAT(refusal(tar_member("k.jpg", "a") + tar_member("k.cls", text) + tar_end()),
                AllOf(HasSubstr("expected a class (a number, 0 or more) in k.cls"), HasSubstr(text), HasSubstr("make the shard again")));
  }
  EXPECT_THAT(refusal(tar_member("k.cls", "1") + tar_member("k.webp", "x") + tar_end()),
              HasSubstr("found no picture (.jpg, .jpeg or .png)"));
  EXPECT_THAT(refusal(tar_member("a.b/x.1.jpg", "x") + tar_member("a.b/x.1.cls", "1") + tar_end()),
              AllOf(HasSubstr("where KEY ends at the first dot, found none"), HasSubstr("the first file is a.b/x.1.jpg")));
  EXPECT_EQ(refusal(tar_end()), "no error");
  EXPECT_THAT(refusal(tar_member("k.cls", std::string(70'000, '1'))), HasSubstr("at most 65536 bytes of text"));
  std::string huge = tar_member("k.jpg", "");
  huge.replace(124, 12, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12);
  EXPECT_THAT(refusal(huge), HasSubstr("a.tar: expected"));
  EXPECT_THROW(TarShards({folder_.file("nowhere.tar")}), Error);
  ASSERT_EQ(::mkfifo(folder_.file("pipe.tar").c_str(), 0600), 0);
  EXPECT_THROW(TarShards({folder_.file("pipe.tar")}), Error);
  const TarShards shards({shard(good)});
  shard(good.substr(0, 100));
  EXPECT_THROW(shards.read(0), Error);
}

// A copy that breaks off ends anywhere: within a picture, within a header, behind a whole member.
TEST_F(TarShardsTest, RefusesWhatIsCutOff) {
  std::string bytes;
  for (int i = 0; i < 3; ++i) bytes += tar_member(concat(i, ".jpg"), std::string(700, 'x')) + tar_member(concat(i, ".cls"), "1");
  const size_t whole = bytes.size();
  bytes += tar_end();
  EXPECT_EQ(refusal(bytes), "no error");
  EXPECT_EQ(refusal(bytes.substr(0, whole + 512)), "no error");  // one block of zeros ends a tar file as well
  for (size_t size = 0; size <= whole + 511; size += 73) {
    EXPECT_THAT(refusal(bytes.substr(0, size)),
                AllOf(HasSubstr(folder_.file("a.tar: expected a whole tar file, got one of ")), HasSubstr("again")))
        << size;
  }
  EXPECT_THAT(refusal(bytes.substr(0, whole)), HasSubstr("cut off; copy or make it again (if it is known to be whole: truncate"));
}

TEST_F(TarShardsTest, FindsShardsOfASplit) {
  for (const char* name : {"x-train-1.tar", "x-train-0.tar", "x-val-0.tar", "x-train.txt"}) shard("", name);
  EXPECT_THAT(find_shards(folder_.path(), "train"), ElementsAre(folder_.file("x-train-0.tar"), folder_.file("x-train-1.tar")));
  EXPECT_THAT(find_shards(folder_.path(), "validation"), ElementsAre(folder_.file("x-val-0.tar")));
  EXPECT_THAT(find_shards(folder_.path(), "test"), ElementsAre());
  std::filesystem::create_directories(folder_.file("train"));
  shard("", "train/1.tar");
  EXPECT_THAT(find_shards(folder_.path(), "train"), ElementsAre(folder_.file("train/1.tar")));
  shard("", "train/2.tar.gz");
  EXPECT_THROW(find_shards(folder_.path(), "train"), Error);  // its pictures would be missing
  EXPECT_THAT(find_shards(folder_.path(), "validation"), ElementsAre(folder_.file("x-val-0.tar")));
  shard("", "train/2.tar");
  EXPECT_THAT(find_shards(folder_.path(), "train"), ElementsAre(folder_.file("train/1.tar"), folder_.file("train/2.tar")));
}

// Training pictures in the test would go unnoticed.
TEST_F(TarShardsTest, NoShardIsOfTwoSplits) {
  for (const char* name : {"Train2017.tar", "validation_1.tar", "a.test.tar", "more.tar", "latest.txt"}) shard("", name);
  EXPECT_THAT(find_shards(folder_.path(), "train"), ElementsAre(folder_.file("Train2017.tar")));
  EXPECT_THAT(find_shards(folder_.path(), "validation"), ElementsAre(folder_.file("validation_1.tar")));
  EXPECT_THAT(find_shards(folder_.path(), "test"), ElementsAre(folder_.file("a.test.tar")));
  for (const char* name : {"train-val.tar", "TrainVal.tar", "latest-train-0.tar.gz", "interval.tar"}) {
    shard("", name);
    const std::string error = error_of([&] { find_shards(folder_.path(), "train"); });
    if (std::string(name) == "latest-train-0.tar.gz") {
      EXPECT_THAT(error, HasSubstr("unpack it to latest-train-0.tar"));  // one word, one split
    } else {
      EXPECT_THAT(error, AllOf(HasSubstr("named for one split"), HasSubstr(name)));
    }
    std::filesystem::remove(folder_.file(name));
  }
}

}  // namespace
}  // namespace adatape
