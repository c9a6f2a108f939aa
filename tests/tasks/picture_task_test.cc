// The task image_classification on folders of pictures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <filesystem>
#include <set>

#include "adatape/core/check.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "tests/data/picture_folders.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PictureTaskTest : public ::testing::Test {
 protected:
  ImageClassificationConfig configured(const std::string& more = "") const {
    ImageClassificationConfig config;
    config.format = "folder";
    config.path = folder_.path();
    config.height = config.width = 16;
    ConfigDocument::from_text(more).read(config);
    return config;
  }
  std::string refusal(const std::string& more = "") const {
    try {
      ImageClassificationTask task(configured(more));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  void write(const std::string& split, int count) const { write_two_classes(folder_.path(), split, count); }

  TemporaryFolder folder_;
};

TEST_F(PictureTaskTest, ResolvesWhatTheFilesSay) {
  write("train", 3);
  ImageClassificationConfig config;
  config.format = "folder";
  config.path = folder_.path();
  config.resolve();
  EXPECT_EQ(config.names, "blue,red");
  EXPECT_EQ(config.classes, 2);
  EXPECT_EQ(config.channels, 3);
  EXPECT_EQ(config.height, 224);
  EXPECT_EQ(config.resize, 256);
  config.validate();
  // What config.toml stores needs no files any more.
  ConfigDocument stored = ConfigDocument::from_text(to_toml(config));
  fs::remove_all(folder_.file("train"));
  ImageClassificationConfig again;
  stored.read(again);
  again.resolve();
  again.validate();
  EXPECT_THAT(again.class_names(), ElementsAre("blue", "red"));
}

TEST_F(PictureTaskTest, KeepsOddClassNames) {
  const std::vector<std::string> odd = {" a", "b, c", "d\\", "\\,", "e f ", "g"};
  EXPECT_EQ(split_names(join_names(odd)), odd);
}

TEST_F(PictureTaskTest, ReadsEverySplit) {
  write("train", 5);
  write("val", 2);
  write("test", 3);
  const ImageClassificationTask task(configured());
  EXPECT_THAT(task.notes(), IsEmpty());
  EXPECT_EQ(task.epoch_size(), 10);
  EXPECT_EQ(task.held_out_size(Split::kValidation), 4);
  EXPECT_EQ(task.held_out_size(Split::kTest), 6);
  const Batch test = task.held_out_batch(Split::kTest, 2, 2);
  EXPECT_EQ(test.images.sizes(), (std::vector<int64_t>{2, 3, 16, 16}));
  EXPECT_FLOAT_EQ(test.images[0][2][8][8].item<float>(), 202 / 127.5f - 1);    // blue/102.png
  EXPECT_NEAR(test.images[1][0][8][8].item<float>(), 200 / 127.5f - 1, 0.03);  // red/100.jpg
  EXPECT_EQ(test.labels[0].item<int64_t>(), 0);
  EXPECT_EQ(test.labels[1].item<int64_t>(), 1);
  // An epoch shows each picture once, with its own label.
  const Batch epoch = task.training_batch(7, 0, 10);
  std::set<int64_t> shown;
  for (int64_t i = 0; i < 10; ++i) {
    const bool blue = epoch.images[i][2][0][0].item<float>() > 0;
    EXPECT_EQ(epoch.labels[i].item<int64_t>(), blue ? 0 : 1);
    shown.insert(epoch.examples[i].item<int64_t>());
  }
  EXPECT_EQ(shown.size(), 10u);
}

TEST_F(PictureTaskTest, ShowsGreyToModelsOfGrey) {
  write("train", 4);
  write("val", 2);
  const ImageClassificationTask task(configured("channels = 1"));
  const Batch batch = task.held_out_batch(Split::kValidation, 0, 1);
  EXPECT_EQ(batch.images.sizes(), (std::vector<int64_t>{1, 1, 16, 16}));
  EXPECT_FLOAT_EQ(batch.images[0][0][0][0].item<float>(), 46 / 127.5f - 1);  // 0.299 x 20 + 0.587 x 30 + 0.114 x 200
}

TEST_F(PictureTaskTest, HoldsOutAPartOfTrainingWhereNoSplitIsThere) {
  write("train", 20);
  const ImageClassificationTask task(configured());
  EXPECT_EQ(task.epoch_size(), 36);
  EXPECT_EQ(task.held_out_size(Split::kValidation), 4);
  EXPECT_THAT(task.notes(), ElementsAre(AllOf(HasSubstr("no folder validation or val: 4 of its 40 training pictures")),
                                        HasSubstr("no folder test: the validation pictures")));
  EXPECT_TRUE(task.held_out_batch(Split::kTest, 0, 4).images.equal(task.held_out_batch(Split::kValidation, 0, 4).images));
  EXPECT_EQ(ImageClassificationTask(configured("validation_examples = 2")).epoch_size(), 38);
}

TEST_F(PictureTaskTest, PassesOverWhatCannotBeRead) {
  write("train", 4);
  write("val", 2);
  const std::string good = jpeg_bytes(plain_picture(200, 30, 20, 0));
  write_bytes(folder_.file("train/red/101.jpg"), good.substr(0, good.size() / 2));
  write_bytes(folder_.file("train/blue/103.png"), "");
  const ImageClassificationTask task(configured("unreadable_limit = 2"));
  for (uint64_t step = 0; step < 3; ++step) {
    const Batch batch = task.training_batch(1, step, 8);
    for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(batch.labels[i].item<int64_t>(), batch.images[i][2][0][0].item<float>() > 0 ? 0 : 1);
  }
  EXPECT_THAT(task.notes(), ElementsAre(HasSubstr("no folder test"),
                                        AllOf(HasSubstr("2 of 8 training pictures could not be read"), HasSubstr("train/"))));
  EXPECT_THROW(ImageClassificationTask(configured("unreadable_limit = 1")).training_batch(1, 0, 8), Error);
  for (const char* name : {"val/red/100.jpg", "val/red/101.jpg", "val/blue/100.png", "val/blue/101.png"})
    write_bytes(folder_.file(name), "x");
  try {
    ImageClassificationTask(configured()).held_out_batch(Split::kValidation, 0, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("could read none of 4"), HasSubstr("expected a JPEG or PNG picture, got other data")));
  }
}

TEST_F(PictureTaskTest, AugmentsTrainingAlone) {
  for (int i = 0; i < 6; ++i) {
    for (const char* name : {"a/", "b/"})
      write_picture(folder_.file(concat("train/", name, i, ".png")), png_bytes(gradient_picture(20 + i, 30)));
  }
  const ImageClassificationTask plain(configured()), moved(configured("augment = 'flip_shift'"));
  EXPECT_TRUE(plain.held_out_batch(Split::kTest, 0, 1).images.equal(moved.held_out_batch(Split::kTest, 0, 1).images));
  const Batch before = plain.training_batch(1, 0, 11), after = moved.training_batch(1, 0, 11);
  EXPECT_TRUE(before.labels.equal(after.labels));
  EXPECT_FALSE(before.images.equal(after.images));
  EXPECT_TRUE(after.images.equal(moved.training_batch(1, 0, 11).images));
}

TEST_F(PictureTaskTest, SaysWhatIsWrong) {
  EXPECT_THAT(refusal(), AllOf(HasSubstr("expected a folder train in "), HasSubstr("(task.path)")));
  write("train", 2);
  EXPECT_THAT(refusal("classes = 3"), HasSubstr("expected 3 class_names, got 2"));
  EXPECT_THAT(refusal("channels = 2"), HasSubstr("expected channels 1 or 3, got 2"));
  EXPECT_THAT(refusal("resize = 15"), HasSubstr("expected resize of at least the image's shorter side, 16, got 15"));
  EXPECT_THAT(refusal("mean = [0.1, 0.2]"), HasSubstr("expected 1 or 3 numbers as mean, got 2"));
  EXPECT_THAT(refusal("std = [0.0]"), HasSubstr("std"));
  fs::create_directories(folder_.file("validation/red"));
  EXPECT_THAT(refusal(), HasSubstr("expected pictures of every class, found no folder \"blue\""));
}

}  // namespace
}  // namespace adatape
