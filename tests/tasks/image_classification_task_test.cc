#include "adatape/tasks/image_classification/image_classification_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <thread>

#include "adatape/core/check.h"
#include "tests/data/idx_files.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kHeight = 6, kWidth = 8;
constexpr int64_t kTraining = 50, kValidation = 10, kTest = 7;

std::vector<int64_t> values(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel()};
}

// Image i of a file: pixel (0, 0) is base + i and its place (y, x) shows in the others, so that each image and each move can be told.
std::string pixels(int64_t base, int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t place = 0; place < kHeight * kWidth; ++place) bytes.push_back(static_cast<char>(place == 0 ? base + i : 100 + place));
  }
  return bytes;
}

std::string label_bytes(int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) bytes.push_back(static_cast<char>(i % 4));
  return bytes;
}

uint32_t u32(int64_t value) { return static_cast<uint32_t>(value); }

class ImageClassificationTaskTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write_bytes(folder_.file("train-images-idx3-ubyte.gz"),
                gzip(idx_bytes({u32(kTraining + kValidation), u32(kHeight), u32(kWidth)}, pixels(1, kTraining + kValidation))));
    write_bytes(folder_.file("train-labels-idx1-ubyte.gz"),
                gzip(idx_bytes({u32(kTraining + kValidation)}, label_bytes(kTraining + kValidation))));
    write_bytes(folder_.file("t10k-images-idx3-ubyte"), idx_bytes({u32(kTest), u32(kHeight), u32(kWidth)}, pixels(90, kTest)));  // plain
    write_bytes(folder_.file("t10k-labels-idx1-ubyte"), idx_bytes({u32(kTest)}, label_bytes(kTest)));
  }

  ImageClassificationConfig configured(const std::string& more = "") const {
    ImageClassificationConfig config;
    config.path = folder_.path();
    config.height = kHeight;
    config.width = kWidth;
    config.classes = 4;
    config.validation_examples = kValidation;
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

  TemporaryFolder folder_;
};

int64_t byte_at(const Batch& batch, int64_t b, int64_t y, int64_t x) {
  return std::lround((batch.images[b][0][y][x].item<double>() + 1) * 127.5);
}

TEST_F(ImageClassificationTaskTest, DescribesItself) {
  const ImageClassificationTask task(configured());
  const InputSpec spec = task.input_spec();
  EXPECT_EQ(spec.kind, InputSpec::Kind::kImages);
  EXPECT_EQ(spec.channels, 1);
  EXPECT_EQ(spec.height, kHeight);
  EXPECT_EQ(spec.width, kWidth);
  EXPECT_EQ(spec.classes, 4);
  EXPECT_EQ(task.epoch_size(), kTraining);
  EXPECT_EQ(task.held_out_size(Split::kValidation), kValidation);
  EXPECT_EQ(task.held_out_size(Split::kTest), kTest);
  EXPECT_EQ(task.covariate_name(), "class");
}

TEST_F(ImageClassificationTaskTest, ReadsBothFileFormsIntoFloats) {
  const ImageClassificationTask task(configured());
  const Batch test = task.held_out_batch(Split::kTest, 2, 3);
  EXPECT_EQ(test.images.sizes(), (std::vector<int64_t>{3, 1, kHeight, kWidth}));
  EXPECT_EQ(test.images.scalar_type(), at::kFloat);
  EXPECT_FLOAT_EQ(test.images[0][0][0][0].item<float>(), 92 / 127.5f - 1);
  EXPECT_FLOAT_EQ(test.images[2][0][3][5].item<float>(), (100 + 3 * kWidth + 5) / 127.5f - 1);
  EXPECT_THAT(values(test.labels), ElementsAre(2, 3, 0));
  EXPECT_THAT(values(test.examples), ElementsAre(2, 3, 4));
  EXPECT_TRUE(task.example_covariate(test).equal(torch::tensor({2.0f, 3.0f, 0.0f})));
  EXPECT_TRUE(test.offsets.empty());
  EXPECT_EQ(test.size(), 3);
}

TEST_F(ImageClassificationTaskTest, ValidationIsTheEndOfTheTrainingFilesAndNeverTrainedOn) {
  const ImageClassificationTask task(configured());
  const Batch validation = task.held_out_batch(Split::kValidation, 0, kValidation);
  for (int64_t i = 0; i < kValidation; ++i) EXPECT_EQ(byte_at(validation, i, 0, 0), 1 + kTraining + i);
  std::set<int64_t> trained;
  for (uint64_t step = 0; step < 30; ++step) {
    const Batch batch = task.training_batch(3, step, 10);
    for (int64_t b = 0; b < 10; ++b) trained.insert(byte_at(batch, b, 0, 0));
  }
  EXPECT_EQ(trained.size(), static_cast<size_t>(kTraining));
  EXPECT_EQ(*trained.rbegin(), kTraining);
}

TEST_F(ImageClassificationTaskTest, VisitsEachExampleOnceAnEpoch) {
  const ImageClassificationTask task(configured());
  // 12 does not divide 50: batches span epochs. 300 = 6 epochs.
  std::vector<int64_t> shown, examples;
  for (uint64_t step = 0; step < 25; ++step) {
    const Batch batch = task.training_batch(8, step, 12);
    const auto ids = values(batch.examples), labels = values(batch.labels);
    for (int64_t b = 0; b < 12; ++b) {
      shown.push_back(byte_at(batch, b, 0, 0) - 1);
      examples.push_back(ids[b]);
      ASSERT_EQ(labels[b], shown.back() % 4);
      ASSERT_EQ(ids[b], static_cast<int64_t>(examples.size() - 1) / kTraining * kTraining + shown.back());
    }
  }
  std::set<std::vector<int64_t>> orders;
  for (size_t epoch = 0; epoch < 6; ++epoch) {
    const std::vector<int64_t> order(shown.begin() + epoch * kTraining, shown.begin() + (epoch + 1) * kTraining);
    EXPECT_EQ(std::set<int64_t>(order.begin(), order.end()).size(), static_cast<size_t>(kTraining));
    EXPECT_TRUE(orders.insert(order).second) << "the order of epoch " << epoch << " came before";
  }
  EXPECT_EQ(std::set<int64_t>(examples.begin(), examples.end()).size(), 300u);
}

TEST_F(ImageClassificationTaskTest, StreamDoesNotDependOnTheBatchSize) {
  const ImageClassificationTask task(configured("augment = 'flip_shift'"));
  const Batch whole = task.training_batch(8, 1, 60);
  for (uint64_t part = 0; part < 4; ++part) {
    const Batch batch = task.training_batch(8, 4 + part, 15);
    EXPECT_TRUE(batch.images.equal(whole.images.narrow(0, static_cast<int64_t>(part) * 15, 15)));
    EXPECT_TRUE(batch.examples.equal(whole.examples.narrow(0, static_cast<int64_t>(part) * 15, 15)));
  }
  EXPECT_TRUE(ImageClassificationTask(configured("augment = 'flip_shift'")).training_batch(8, 1, 60).images.equal(whole.images));
  EXPECT_FALSE(task.training_batch(9, 1, 60).images.equal(whole.images));
}

TEST_F(ImageClassificationTaskTest, ShufflesWithoutPreference) {
  EpochOrder order(5);
  std::map<std::vector<uint32_t>, int> counts;
  std::vector<std::vector<int>> places(5, std::vector<int>(5));
  for (uint64_t epoch = 0; epoch < 6000; ++epoch) {
    const auto permutation = order.permutation(1, epoch);
    ++counts[*permutation];
    for (size_t place = 0; place < 5; ++place) ++places[(*permutation)[place]][place];
  }
  EXPECT_EQ(counts.size(), 120u);
  double chi_square = 0;
  for (const auto& [permutation, count] : counts) chi_square += (count - 50) * (count - 50) / 50.0;
  EXPECT_LT(chi_square, 200);  // 119 degrees of freedom: 5e-6
  for (const auto& row : places) {
    for (const int count : row) EXPECT_NEAR(count, 1200, 160);
  }
}

TEST_F(ImageClassificationTaskTest, FlipsAndShiftsContentByWholePixels) {
  const ImageClassificationTask plain(configured()), moved(configured("augment = 'flip_shift'\nshift = 2"));
  const Batch before = plain.training_batch(4, 0, 1000), after = moved.training_batch(4, 0, 1000);
  EXPECT_TRUE(before.examples.equal(after.examples));
  std::map<std::tuple<bool, int64_t, int64_t>, int> moves;
  for (int64_t b = 0; b < 1000; ++b) {
    int matches = 0;
    const at::Tensor image = before.images[b][0];
    for (const bool flip : {false, true}) {
      for (int64_t down = -2; down <= 2; ++down) {
        for (int64_t right = -2; right <= 2; ++right) {
          // The window of a wide black frame that a shift uncovers, through torch's own padding.
          const at::Tensor framed = torch::constant_pad_nd(flip ? image.flip({1}) : image, {2, 2, 2, 2}, -1.0);
          const at::Tensor expected = framed.narrow(0, 2 - down, kHeight).narrow(1, 2 - right, kWidth);
          if (!after.images[b][0].equal(expected)) continue;
          ++matches;
          ++moves[{flip, down, right}];
        }
      }
    }
    ASSERT_EQ(matches, 1) << b;
  }
  EXPECT_EQ(moves.size(), 50u);  // every combination occurs
  int flips = 0;
  for (const auto& [move, count] : moves) flips += std::get<0>(move) ? count : 0;
  EXPECT_NEAR(flips, 500, 80);
}

TEST_F(ImageClassificationTaskTest, MovesDifferBetweenEpochsAndSparesHeldOutImages) {
  const ImageClassificationTask plain(configured()), moved(configured("augment = 'flip_shift'"));
  EXPECT_TRUE(plain.held_out_batch(Split::kValidation, 0, kValidation)
                  .images.equal(moved.held_out_batch(Split::kValidation, 0, kValidation).images));
  EXPECT_TRUE(plain.held_out_batch(Split::kTest, 0, kTest).images.equal(moved.held_out_batch(Split::kTest, 0, kTest).images));
  std::map<int64_t, at::Tensor> first;
  int same = 0;
  for (uint64_t epoch = 0; epoch < 2; ++epoch) {
    const Batch batch = moved.training_batch(1, epoch, kTraining);
    for (int64_t b = 0; b < kTraining; ++b) {
      const int64_t index = batch.examples[b].item<int64_t>() % kTraining;
      if (epoch == 0) first[index] = batch.images[b];
      if (epoch == 1) same += batch.images[b].equal(first.at(index));
    }
  }
  EXPECT_LT(same, 10);  // 1 of 50 by chance
}

TEST_F(ImageClassificationTaskTest, SmoothsLabels) {
  const ImageClassificationTask sharp(configured()), smooth(configured("label_smoothing = 0.2"));
  Batch batch = sharp.held_out_batch(Split::kTest, 0, 2);
  const at::Tensor logits = torch::tensor({{1.0f, 0.0f, -1.0f, 2.0f}, {0.5f, 3.0f, 0.0f, 0.0f}});
  const at::Tensor surprise = -logits.log_softmax(1);
  const at::Tensor label_surprise = surprise.gather(1, batch.labels.unsqueeze(1)).squeeze(1);
  EXPECT_TRUE(sharp.example_loss(logits, batch).allclose(label_surprise));
  EXPECT_TRUE(smooth.example_loss(logits, batch).allclose(0.8 * label_surprise + 0.2 * surprise.mean(1)));
  EXPECT_TRUE(sharp.example_correct(logits, batch).equal(torch::tensor({false, true})));
  EXPECT_THROW(sharp.example_loss(torch::zeros({2, 10}), batch), Error);
}

TEST_F(ImageClassificationTaskTest, NamesClasses) {
  EXPECT_THAT(configured().class_names(), ElementsAre("0", "1", "2", "3"));
  EXPECT_THAT(configured("class_names = 'cat, dog,  old bird ,fish'").class_names(), ElementsAre("cat", "dog", "old bird", "fish"));
  EXPECT_THAT(refusal("class_names = 'cat,dog'"), HasSubstr("expected 4 class_names, got 2 (\"cat,dog\")"));
  ImageClassificationConfig fashion;
  EXPECT_EQ(fashion.class_names().back(), "Ankle boot");
  EXPECT_EQ(fashion.class_names().size(), 10u);
  fashion.path += "/";
  EXPECT_EQ(fashion.class_names().front(), "T-shirt/top");
  fashion.path = "/data/mnist";
  EXPECT_EQ(fashion.class_names().front(), "0");
}

TEST_F(ImageClassificationTaskTest, SaysWhatIsWrongWithTheFiles) {
  EXPECT_THAT(refusal("path = '/nowhere'"), AllOf(HasSubstr("task image_classification: expected train-images-idx3-ubyte.gz or"),
                                                  HasSubstr("in /nowhere"), HasSubstr("Debian package dataset-fashion-mnist")));
  EXPECT_THAT(refusal("width = 9"), HasSubstr("train-images-idx3-ubyte: expected images of 6 x 9 (task.height x task.width), got 6 x 8"));
  EXPECT_THAT(refusal("classes = 3"), HasSubstr("train-labels-idx1-ubyte: expected labels below 3 (task.classes), got 3 at 3"));
  EXPECT_THAT(refusal("validation_examples = 60"),
              HasSubstr("expected validation_examples below the 60 images of the training files, got 60"));
  EXPECT_THAT(refusal("augment = 'flip_shift'\nshift = 6"), HasSubstr("expected shift below the image's 6 x 8 pixels, got 6"));
  EXPECT_THAT(refusal("augment = 'blur'"), HasSubstr("flip_shift"));
  EXPECT_THAT(refusal("channels = 3"), HasSubstr("channels"));

  write_bytes(folder_.file("t10k-labels-idx1-ubyte"), idx_bytes({6}, label_bytes(6)));
  EXPECT_THAT(refusal(), HasSubstr("t10k-labels-idx1-ubyte: expected a label for each of the 7 images, got 6 labels"));
  write_bytes(folder_.file("t10k-labels-idx1-ubyte"), idx_bytes({1, 1, 1}, "x"));
  EXPECT_THAT(refusal(), HasSubstr("t10k-labels-idx1-ubyte: expected 1 dimension(s), got 3"));
  write_bytes(folder_.file("t10k-labels-idx1-ubyte"), "");
  EXPECT_THAT(refusal(), HasSubstr("data: t10k-labels-idx1-ubyte: expected an IDX header"));
}

TEST_F(ImageClassificationTaskTest, RefusesExamplesThatAreNotThere) {
  const ImageClassificationTask task(configured());
  EXPECT_THROW(task.held_out_batch(Split::kTrain, 0, 1), Error);
  EXPECT_THROW(task.held_out_batch(Split::kTest, 0, kTest + 1), Error);
  EXPECT_THROW(task.held_out_batch(Split::kValidation, kValidation, 1), Error);
  EXPECT_THROW(task.held_out_batch(Split::kValidation, -1, 1), Error);
  EXPECT_THROW(task.training_batch(1, 0, 0), Error);
  EXPECT_EQ(task.held_out_batch(Split::kTest, kTest, 0).size(), 0);
}

TEST_F(ImageClassificationTaskTest, ThreadsAgree) {
  const ImageClassificationTask task(configured("augment = 'flip_shift'"));
  std::vector<Batch> expected;
  for (uint64_t step = 0; step < 40; ++step) expected.push_back(task.training_batch(1, step, 20));
  std::vector<std::vector<Batch>> got(4, std::vector<Batch>(40));
  std::vector<std::thread> threads;
  for (size_t t = 0; t < got.size(); ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t step = 0; step < 40; ++step) got[t][(step + 10 * t) % 40] = task.training_batch(1, (step + 10 * t) % 40, 20);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& batches : got) {
    for (size_t step = 0; step < 40; ++step) {
      EXPECT_TRUE(batches[step].images.equal(expected[step].images));
      EXPECT_TRUE(batches[step].examples.equal(expected[step].examples));
    }
  }
}

// EMNIST's letters are numbered from 1.
TEST_F(ImageClassificationTaskTest, TellsOfClassesWithoutImages) {
  EXPECT_TRUE(ImageClassificationTask(configured()).notes().empty());
  write_bytes(folder_.file("t10k-labels-idx1-ubyte"), idx_bytes({u32(kTest)}, std::string("\1\2\3\1\2\3\1", kTest)));
  EXPECT_THAT(ImageClassificationTask(configured()).notes(),
              ElementsAre(concat("t10k-labels-idx1-ubyte in ", folder_.path(), ": no image of class 0")));
  EXPECT_THAT(ImageClassificationTask(configured("classes = 6\nclass_names = 'a,b,c,d,e,f'")).notes(),
              ElementsAre(HasSubstr("train-labels-idx1-ubyte in "), HasSubstr(": no image of 3 classes, the first of them 0 (\"a\")")));
}

// The Debian package dataset-fashion-mnist; the set-up installs it, so its absence is a failure.
TEST(FashionMnist, LoadsTheInstalledPackage) {
  const ImageClassificationTask task{ImageClassificationConfig{}};
  EXPECT_EQ(task.epoch_size(), 55'000);
  EXPECT_EQ(task.held_out_size(Split::kValidation), 5000);
  EXPECT_EQ(task.held_out_size(Split::kTest), 10'000);
  const Batch test = task.held_out_batch(Split::kTest, 0, 10'000);
  const at::Tensor counts = torch::bincount(test.labels);
  EXPECT_TRUE(counts.equal(torch::full({10}, 1000, torch::kLong)));
  EXPECT_THAT(values(test.labels.narrow(0, 0, 5)), ElementsAre(9, 2, 1, 1, 6));
  EXPECT_EQ(test.images.min().item<float>(), -1);
  EXPECT_EQ(test.images.max().item<float>(), 1);
  EXPECT_NEAR(test.images.mean().item<double>(), 2 * 0.2868 - 1, 1e-3);  // the published mean of the test images
  const Batch training = task.training_batch(1, 0, 256);
  EXPECT_EQ(training.images.sizes(), (std::vector<int64_t>{256, 1, 28, 28}));
  EXPECT_EQ(task.class_names()[9], "Ankle boot");
}

}  // namespace
}  // namespace adatape
