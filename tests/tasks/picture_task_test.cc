// The task image_classification on folders of pictures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <filesystem>
#include <set>

#include "adatape/core/check.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "tests/data/picture_folders.h"
#include "tests/data/tar_files.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::vector<int64_t> values_of(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel()};
}

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
  EXPECT_EQ(task.describe_data(), "10 training, 4 validation and 6 test pictures in 2 classes");
  const Batch test = task.held_out_batch(Split::kTest, 2, 2);
  EXPECT_EQ(test.images.sizes(), (std::vector<int64_t>{2, 3, 16, 16}));
  // Blue 200, 201 and 202 and red, each with its own label, in an order of their own.
  const Batch all = task.held_out_batch(Split::kTest, 0, 6);
  EXPECT_TRUE(all.images.narrow(0, 2, 2).equal(test.images));
  std::vector<int64_t> blues;
  for (int64_t i = 0; i < 6; ++i) {
    const float blue = (all.images[i][2][8][8].item<float>() + 1) * 127.5f, red = (all.images[i][0][8][8].item<float>() + 1) * 127.5f;
    EXPECT_EQ(all.labels[i].item<int64_t>(), red > blue ? 1 : 0);
    if (blue > red) blues.push_back(std::lround(blue));
  }
  EXPECT_THAT(blues, UnorderedElementsAre(200, 201, 202));
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
  const Batch batch = task.held_out_batch(Split::kValidation, 0, 4);
  EXPECT_EQ(batch.images.sizes(), (std::vector<int64_t>{4, 1, 16, 16}));
  std::vector<float> greys;
  for (int64_t i = 0; i < 4; ++i) greys.push_back(std::round((batch.images[i][0][0][0].item<float>() + 1) * 127.5f));
  EXPECT_THAT(greys, Contains(46));  // 0.299 x 20 + 0.587 x 30 + 0.114 x 200
}

TEST_F(PictureTaskTest, HoldsOutAPartOfTrainingWhereNoSplitIsThere) {
  write("train", 20);
  const ImageClassificationTask task(configured());
  EXPECT_EQ(task.epoch_size(), 36);
  EXPECT_EQ(task.held_out_size(Split::kValidation), 4);
  EXPECT_THAT(task.notes(), ElementsAre(AllOf(HasSubstr("has no validation pictures (validation or val): 4 of its 40 training pictures")),
                                        HasSubstr("has no test pictures (test): the validation pictures")));
  EXPECT_TRUE(task.held_out_batch(Split::kTest, 0, 4).images.equal(task.held_out_batch(Split::kValidation, 0, 4).images));
  EXPECT_EQ(ImageClassificationTask(configured("validation_examples = 2")).epoch_size(), 38);
}

TEST_F(PictureTaskTest, HoldsOutSomeOfEveryClass) {
  for (int label = 0; label < 10; ++label) {
    for (int i = 0; i < 4; ++i)
      write_picture(folder_.file(concat("train/class_", label, "/", i, ".png")), png_bytes(plain_picture(20, 30, label, i)));
  }
  const ImageClassificationTask task(configured());
  EXPECT_EQ(task.epoch_size(), 30);
  EXPECT_THAT(values_of(task.held_out_batch(Split::kValidation, 0, 10).labels), UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(task.notes(), ElementsAre(HasSubstr("10 of its 40 training pictures"), HasSubstr("no test pictures")));
  EXPECT_THAT(ImageClassificationTask(configured("validation_examples = 3")).notes(),
              Contains("7 of 10 classes have no validation picture: task.validation_examples is 3"));
  // A class of one is trained on.
  for (int i = 1; i < 4; ++i) fs::remove(folder_.file(concat("train/class_7/", i, ".png")));
  const ImageClassificationTask single(configured());
  EXPECT_EQ(single.epoch_size(), 28);
  EXPECT_THAT(values_of(single.held_out_batch(Split::kValidation, 0, 9).labels), UnorderedElementsAre(0, 1, 2, 3, 4, 5, 6, 8, 9));
  EXPECT_THAT(values_of(single.training_batch(1, 0, 28).labels), Contains(7).Times(1));
  EXPECT_THAT(single.notes(), Contains("1 of 10 classes have no validation picture: a single picture stays in training"));
}

// A look at the first pictures is a look at all classes, and always the same one.
TEST_F(PictureTaskTest, PicturesOfASplitAreMixed) {
  write("train", 40);
  write("val", 40);
  write("test", 40);
  const ImageClassificationTask task(configured()), again(configured());
  for (const Split split : {Split::kValidation, Split::kTest}) {
    const std::vector<int64_t> first = values_of(task.held_out_batch(split, 0, 20).labels);
    EXPECT_GE(std::count(first.begin(), first.end(), 0), 4);
    EXPECT_GE(std::count(first.begin(), first.end(), 1), 4);
    EXPECT_EQ(first, values_of(again.held_out_batch(split, 0, 20).labels));
  }
}

// Settings are never found on the pictures that results are reported on.
TEST_F(PictureTaskTest, CalibratesOnTrainingPicturesWhereValidationIsTheTest) {
  write("train", 30);
  write("val", 4);
  {
    const ImageClassificationTask task(configured("augment = \"flip_shift\"\nshift = 4"));
    EXPECT_EQ(task.calibration_split(), Split::kTrain);
    EXPECT_EQ(task.held_out_size(Split::kTrain), task.epoch_size());
    const Batch shown = task.held_out_batch(Split::kTrain, 0, 8);
    EXPECT_TRUE(shown.images.equal(task.held_out_batch(Split::kTrain, 0, 8).images));
    EXPECT_TRUE(shown.images.select(3, 0).equal(shown.images.select(3, 15)));  // not shifted: no black edge
  }
  write("test", 4);
  const ImageClassificationTask task(configured());
  EXPECT_EQ(task.calibration_split(), Split::kValidation);
  EXPECT_THROW(task.held_out_batch(Split::kTrain, 0, 1), Error);
}

TEST_F(PictureTaskTest, ReadsFilesWhoseNamesAreNotUtf8) {
  write("train", 3);
  write("val", 1);
  write_picture(folder_.file("train/red/gro\xdf.jpg"), jpeg_bytes(plain_picture(200, 30, 20, 9)));
  EXPECT_EQ(ImageClassificationTask(configured()).training_batch(1, 0, 7).size(), 7);
  write_bytes(folder_.file("train/red/gro\xdf.jpg"), "x");
  const ImageClassificationTask task(configured());
  task.training_batch(1, 0, 7);
  EXPECT_THAT(task.notes(), Contains(HasSubstr("train/red/gro?.jpg: expected a JPEG or PNG picture")));
  // Members of a tar file likewise.
  const auto shard = [](const std::string& odd) {
    return tar_member("gro\xdf.jpg", odd) + tar_member("gro\xdf.cls", "1") +
           tar_member("a.jpg", jpeg_bytes(plain_picture(20, 30, 200, 0))) + tar_member("a.cls", "0") + tar_end();
  };
  const std::string tar = "format = 'tar'\nclasses = 2";
  const std::string good = jpeg_bytes(plain_picture(200, 30, 20, 0));
  write_bytes(folder_.file("train.tar"), shard(good));
  write_bytes(folder_.file("val.tar"), shard(good));
  fs::rename(folder_.file("train"), folder_.file("folders_train"));
  fs::rename(folder_.file("val"), folder_.file("folders_val"));
  EXPECT_THAT(values_of(ImageClassificationTask(configured(tar)).held_out_batch(Split::kValidation, 0, 2).labels),
              UnorderedElementsAre(1, 0));
  write_bytes(folder_.file("train.tar"), shard("x"));
  const ImageClassificationTask broken(configured(tar));
  broken.training_batch(1, 0, 2);
  EXPECT_THAT(broken.notes(), Contains(HasSubstr("train.tar: gro?: expected a JPEG or PNG picture")));
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
  EXPECT_THAT(task.notes(), ElementsAre(HasSubstr("no test pictures"),
                                        AllOf(HasSubstr("2 of 8 training pictures could not be read"), HasSubstr("train/"))));
  EXPECT_THROW(ImageClassificationTask(configured("unreadable_limit = 1")).training_batch(1, 0, 8), Error);
  // The test is the validation split here: what could not be read is told once.
  write_bytes(folder_.file("val/red/100.jpg"), "x");
  const ImageClassificationTask once(configured());
  once.held_out_batch(Split::kValidation, 0, 4);
  once.held_out_batch(Split::kTest, 0, 4);
  EXPECT_THAT(once.notes(), ElementsAre(HasSubstr("no test pictures"), HasSubstr("1 of 4 validation pictures could not be read")));
  for (const char* name : {"val/red/100.jpg", "val/red/101.jpg", "val/blue/100.png", "val/blue/101.png"})
    write_bytes(folder_.file(name), "x");
  try {
    ImageClassificationTask(configured()).held_out_batch(Split::kValidation, 0, 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("expected validation pictures, could read none of 4"),
                                    HasSubstr("expected a JPEG or PNG picture, got other data")));
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

TEST_F(PictureTaskTest, ShowsRandomPartsDistortedByKeyAlone) {
  for (int i = 0; i < 4; ++i) {
    for (const char* name : {"a/", "b/"})
      write_picture(folder_.file(concat("train/", name, i, ".jpg")), jpeg_bytes(gradient_picture(60 + i, 80)));
  }
  write_picture(folder_.file("val/a/1.jpg"), jpeg_bytes(gradient_picture(60, 80)));
  write_picture(folder_.file("val/b/1.jpg"), jpeg_bytes(gradient_picture(60, 80)));
  const ImageClassificationTask plain(configured()), parts(configured("augment = 'inception'")),
      distorted(configured("augment = 'inception'\nrand_augment = 2\nrand_augment_level = 15.0"));
  const Batch whole = plain.training_batch(3, 0, 8), part = parts.training_batch(3, 0, 8), both = distorted.training_batch(3, 0, 8);
  int flips = 0;
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_FALSE(part.images[i].equal(whole.images[i]));
    // Red falls from top to bottom and green from left to right, in a part too; mirrored it rises.
    EXPECT_GT((part.images[i][0][15] - part.images[i][0][0]).mean().item<float>(), 0);
    flips += (part.images[i][1].select(1, 15) - part.images[i][1].select(1, 0)).mean().item<float>() < 0;
  }
  EXPECT_GT(flips, 0);
  EXPECT_LT(flips, 8);
  EXPECT_FALSE(both.images.equal(part.images));
  EXPECT_TRUE(both.images.isfinite().all().item<bool>());
  // Nothing depends on the batch, but everything on the epoch.
  EXPECT_TRUE(distorted.training_batch(3, 2, 2).images.equal(both.images.narrow(0, 4, 2)));
  EXPECT_FALSE(distorted.training_batch(3, 1, 8).images.equal(both.images));
  EXPECT_TRUE(distorted.held_out_batch(Split::kValidation, 0, 2).images.equal(plain.held_out_batch(Split::kValidation, 0, 2).images));
}

TEST_F(PictureTaskTest, MixesPairsAndTheirLabels) {
  write("train", 20);
  const ImageClassificationTask plain(configured()), mixed(configured("mixup = 0.5"));
  const Batch before = plain.training_batch(5, 0, 36), after = mixed.training_batch(5, 0, 36);
  EXPECT_TRUE(before.labels.equal(after.labels));
  double sum = 0, least = 1, most = 0;
  for (int64_t i = 0; i < 36; ++i) {
    const int64_t other = i ^ 1;
    const auto share = after.label_weights[i].item<float>();
    EXPECT_EQ(after.other_labels[i].item<int64_t>(), before.labels[other].item<int64_t>());
    EXPECT_EQ(share, after.label_weights[other].item<float>());
    EXPECT_TRUE(after.images[i].allclose(share * before.images[i] + (1 - share) * before.images[other], 0, 1e-6));
    sum += share;
    least = std::min<double>(least, share);
    most = std::max<double>(most, share);
  }
  EXPECT_GE(least, 0.5);
  EXPECT_GT(most, 0.95);
  EXPECT_NEAR(sum / 36, 0.5 + 1 / 3.14159, 0.12);  // the mean of the larger side of Beta(1/2, 1/2)
  EXPECT_TRUE(mixed.training_batch(5, 4, 4).images.equal(after.images.narrow(0, 16, 4)));
  EXPECT_FALSE(mixed.held_out_batch(Split::kTest, 0, 2).other_labels.defined());
  EXPECT_THROW(mixed.training_batch(5, 0, 3), Error);
}

TEST_F(PictureTaskTest, ComputesEachLossOfMixedLabels) {
  write("train", 4);
  Batch batch;
  batch.labels = torch::tensor({0, 1});
  batch.images = torch::zeros({2, 3, 16, 16});
  const at::Tensor logits = torch::tensor({{2.0f, -1.0f}, {0.5f, 1.5f}});
  const auto loss = [&](const std::string& more) { return ImageClassificationTask(configured(more)).example_loss(logits, batch); };
  const at::Tensor log_p = logits.log_softmax(1), on = -logits.sigmoid().log(), off = -(-logits).sigmoid().log();
  EXPECT_TRUE(loss("loss = 'sigmoid'").allclose(torch::stack({on[0][0] + off[0][1], off[1][0] + on[1][1]})));
  const at::Tensor smooth = loss("loss = 'sigmoid'\nlabel_smoothing = 0.2");
  EXPECT_NEAR(smooth[0].item<double>(), (0.9 * on[0][0] + 0.1 * off[0][0] + 0.1 * on[0][1] + 0.9 * off[0][1]).item<double>(), 1e-5);
  batch.other_labels = torch::tensor({1, 1});
  batch.label_weights = torch::tensor({0.75f, 0.6f});
  EXPECT_TRUE(loss("").allclose(torch::stack({-0.75 * log_p[0][0] - 0.25 * log_p[0][1], -log_p[1][1]})));
  EXPECT_NEAR(loss("loss = 'sigmoid'")[0].item<double>(),
              (0.75 * on[0][0] + 0.25 * off[0][0] + 0.25 * on[0][1] + 0.75 * off[0][1]).item<double>(), 1e-5);
}

TEST_F(PictureTaskTest, ReadsTarShards) {
  for (int shard = 0; shard < 2; ++shard) {
    std::string bytes;
    for (int i = 0; i < 10; ++i) {
      const bool blue = i % 2 == 0;
      bytes += tar_member(concat(shard, '_', i, ".png"), png_bytes(blue ? plain_picture(20, 30, 200, i) : plain_picture(200, 30, 20, i)));
      bytes += tar_member(concat(shard, '_', i, ".cls"), blue ? "0" : "1");
    }
    write_bytes(folder_.file(concat("x-train-", shard, ".tar")), bytes + tar_end());
  }
  const std::string tar = "format = 'tar'\nclass_names = 'blue,red'";
  const ImageClassificationTask task(configured(tar));
  EXPECT_EQ(task.epoch_size(), 18);
  EXPECT_EQ(task.held_out_size(Split::kValidation), 2);
  EXPECT_THAT(task.notes(), ElementsAre(HasSubstr("2 of its 20 training pictures"), HasSubstr("no test pictures")));
  EXPECT_EQ(task.describe_data(), "18 training and 2 validation pictures in 2 classes (2 shards)");
  const Batch batch = task.training_batch(1, 0, 18);
  for (int64_t i = 0; i < 18; ++i) EXPECT_EQ(batch.labels[i].item<int64_t>(), batch.images[i][2][0][0].item<float>() > 0 ? 0 : 1);
  EXPECT_THAT(refusal("format = 'tar'"), HasSubstr("expected task.classes or task.class_names with format = \"tar\", got neither"));
  write_bytes(folder_.file("x-val-0.tar"),
              tar_member("v.png", png_bytes(plain_picture(1, 2, 3, 0))) + tar_member("v.cls", "2") + tar_end());
  EXPECT_THAT(refusal(tar), HasSubstr("x-val-0.tar: v: expected a class below 2 (task.classes), got 2"));
}

TEST_F(PictureTaskTest, WantsEveryClassInEveryShardedSplit) {
  const auto write_shard = [&](const std::string& name, const std::vector<int>& labels) {
    std::string bytes;
    for (size_t i = 0; i < labels.size(); ++i)
      bytes += tar_member(concat(i, ".png"), png_bytes(plain_picture(1, 2, 3, 0))) + tar_member(concat(i, ".cls"), concat(labels[i]));
    write_bytes(folder_.file(name), bytes + tar_end());
  };
  const std::string tar = "format = 'tar'\nclass_names = 'ant,bee,cat'";
  write_shard("train-0.tar", {0, 2, 2});
  EXPECT_THAT(refusal(tar), HasSubstr(concat("expected pictures of every class in the train shards of ", folder_.path(),
                                             ", found none of class 1 (\"bee\"); add some, or lower task.classes")));
  EXPECT_THAT(refusal("format = 'tar'\nclasses = 5"), HasSubstr("found none of 3 classes, the first of them 1; add some"));
  write_shard("train-1.tar", {1, 1});  // the classes of a split may lie in several shards
  EXPECT_EQ(refusal(tar), "no error");
  write_shard("val-0.tar", {0, 1});
  EXPECT_THAT(refusal(tar), AllOf(HasSubstr("in the validation shards of"), HasSubstr("found none of class 2 (\"cat\")")));
  write_shard("val-1.tar", {2});
  EXPECT_EQ(refusal(tar), "no error");
  write_shard("test.tar", {2, 1});
  EXPECT_THAT(refusal(tar), AllOf(HasSubstr("in the test shards of"), HasSubstr("found none of class 0 (\"ant\")")));
}

TEST_F(PictureTaskTest, SaysWhatIsWrong) {
  EXPECT_THAT(refusal(), AllOf(HasSubstr("expected a folder train in "), HasSubstr("(task.path)"), HasSubstr("task.class_names=a,b,c")));
  write("train", 2);
  EXPECT_THAT(refusal("classes = 3"),
              AllOf(HasSubstr("expected task.classes = 2, a class for each folder in "), HasSubstr("train, got 3; leave it out")));
  EXPECT_THAT(refusal("classes = 3\nclass_names = 'a,b'"), HasSubstr("expected 3 class_names, got 2"));
  EXPECT_THAT(
      refusal("height = 40000\nwidth = 40000"),
      HasSubstr("expected a picture of at most 16777216 pixels (4096 x 4096) as the model sees it, got task.height x task.width = 40000"));
  EXPECT_THAT(refusal("resize = 60000"), HasSubstr("expected task.resize of at most 8192, got 60000"));
  EXPECT_THAT(refusal("channels = 2"), HasSubstr("expected channels 1 or 3, got 2"));
  EXPECT_THAT(refusal("resize = 15"), HasSubstr("expected resize of at least the image's shorter side, 16, got 15"));
  EXPECT_THAT(refusal("mean = [0.1, 0.2]"), HasSubstr("expected 1 or 3 numbers as mean, got 2"));
  EXPECT_THAT(refusal("std = [0.0]"), HasSubstr("std"));
  fs::create_directories(folder_.file("validation/red"));
  EXPECT_THAT(refusal(), HasSubstr("expected pictures of every class, found no folder \"blue\""));
}

}  // namespace
}  // namespace adatape
