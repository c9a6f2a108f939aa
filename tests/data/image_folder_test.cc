#include "adatape/data/image_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "adatape/core/check.h"
#include "tests/data/idx_files.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

class ImageFolderTest : public ::testing::Test {
 protected:
  void picture(const std::string& name) const {
    const fs::path path = fs::path(folder_.path()) / name;
    fs::create_directories(path.parent_path());
    write_bytes(path.string(), "bytes");
  }
  std::vector<std::string> names(const std::vector<PictureFile>& files) const {
    std::vector<std::string> found;
    for (const PictureFile& file : files)
      found.push_back(concat(file.label, ':', fs::path(file.path).lexically_relative(folder_.path()).string()));
    return found;
  }
  std::string train() const { return folder_.file("train"); }
  std::string pictures_refusal() const {
    return refusal([&] { find_pictures(train(), find_classes(train())); });
  }

  TemporaryFolder folder_;
};

TEST_F(ImageFolderTest, FindsClassesAndPicturesInOrder) {
  for (const char* name : {"train/dog/b.JPG", "train/dog/a.png", "train/cat/x/deep.jpeg", "train/cat/k.jpg", "train/cat/notes.txt",
                           "train/cat/.hidden.jpg", "train/.git/x.jpg"})
    picture(name);
  write_bytes(folder_.file("train/list.jpg"), "no class");
  EXPECT_THAT(find_classes(train()), ElementsAre("cat", "dog"));
  EXPECT_THAT(names(find_pictures(train(), {"cat", "dog"})),
              ElementsAre("0:train/cat/k.jpg", "0:train/cat/x/deep.jpeg", "1:train/dog/a.png", "1:train/dog/b.JPG"));
}

TEST_F(ImageFolderTest, FindsSplitsByTheirNames) {
  picture("val/cat/a.jpg");
  EXPECT_EQ(split_folder(folder_.path(), "validation"), folder_.file("val"));
  picture("validation/cat/a.jpg");
  EXPECT_EQ(split_folder(folder_.path(), "validation"), folder_.file("validation"));
  EXPECT_EQ(split_folder(folder_.path(), "test"), std::nullopt);
}

TEST_F(ImageFolderTest, FollowsLinksButNotForEver) {
  for (const char* name : {"elsewhere/a.jpg", "train/dog/b.jpg", "train/cat/c.jpg"}) picture(name);
  fs::create_directory_symlink(folder_.file("elsewhere"), folder_.file("train/cat/linked"));
  EXPECT_THAT(names(find_pictures(train(), {"cat", "dog"})),
              ElementsAre("0:train/cat/c.jpg", "0:train/cat/linked/a.jpg", "1:train/dog/b.jpg"));
  fs::create_directory_symlink(folder_.file("train/cat"), folder_.file("elsewhere/back"));
  EXPECT_THAT(pictures_refusal(), AllOf(HasSubstr("a link that leads back: "), HasSubstr("train/cat/linked/back")));
  fs::rename(folder_.file("elsewhere/back"), folder_.file("elsewhere/gro\xdf"));
  EXPECT_THAT(pictures_refusal(), HasSubstr("train/cat/linked/gro?"));
  fs::remove(folder_.file("elsewhere/gro\xdf"));
  fs::create_directory_symlink("itself", folder_.file("train/cat/itself"));  // no folder at all: passed over
  EXPECT_EQ(find_pictures(train(), {"cat", "dog"}).size(), 3u);
}

TEST_F(ImageFolderTest, SaysWhatIsWrong) {
  EXPECT_THAT(refusal([&] { find_classes(folder_.file("nowhere")); }),
              AllOf(HasSubstr("expected a readable folder"), HasSubstr("nowhere")));
  picture("train/cat/a.jpg");
  EXPECT_THAT(pictures_refusal(), HasSubstr("expected a folder for each of at least 2 classes, got only \"cat\""));
  fs::create_directories(folder_.file("train/dog"));
  EXPECT_THAT(pictures_refusal(), AllOf(HasSubstr("train/dog: expected pictures"), HasSubstr("found none")));
  picture("train/dog/a.jpg");
  EXPECT_THAT(refusal([&] { find_pictures(train(), {"cat", "dog", "owl"}); }), HasSubstr("found no folder \"owl\""));
  EXPECT_THAT(refusal([&] { find_pictures(train(), {"cat"}); }), HasSubstr("expected folders named for the 1 classes, got \"dog\""));
  picture("train/gro\xdf/a.jpg");
  EXPECT_THAT(pictures_refusal(), AllOf(HasSubstr("names in UTF-8, got \"gro?\"")));
}

}  // namespace
}  // namespace adatape
