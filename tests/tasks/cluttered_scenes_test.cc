#include "adatape/tasks/cluttered_scenes/cluttered_scenes_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <functional>

#include "adatape/core/check.h"
#include "tests/data/idx_files.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kSide = 10, kCanvas = 32;
constexpr int64_t kTraining = 40, kValidation = 8, kTest = 9;

// Image i of a file is a rectangle of 4 x 6 pixels at (2, 3), of a brightness of its own.
std::string pixels(int64_t first, int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t y = 0; y < kSide; ++y) {
      for (int64_t x = 0; x < kSide; ++x) bytes.push_back(static_cast<char>(y >= 2 && y < 6 && x >= 3 && x < 9 ? first + i : 0));
    }
  }
  return bytes;
}

std::string label_bytes(int64_t count) {
  std::string bytes;
  for (int64_t i = 0; i < count; ++i) bytes.push_back(static_cast<char>(i % 4));
  return bytes;
}

uint32_t u32(int64_t value) { return static_cast<uint32_t>(value); }
int brightness(const at::Tensor& image, int64_t y, int64_t x) {
  return static_cast<int>(std::lround((image[0][y][x].item<float>() + 1) * 127.5));
}

class ClutteredScenesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const int64_t all = kTraining + kValidation;
    write_bytes(folder_.file("train-images-idx3-ubyte"), idx_bytes({u32(all), u32(kSide), u32(kSide)}, pixels(10, all)));
    write_bytes(folder_.file("train-labels-idx1-ubyte"), idx_bytes({u32(all)}, label_bytes(all)));
    write_bytes(folder_.file("t10k-images-idx3-ubyte"), idx_bytes({u32(kTest), u32(kSide), u32(kSide)}, pixels(100, kTest)));
    write_bytes(folder_.file("t10k-labels-idx1-ubyte"), idx_bytes({u32(kTest)}, label_bytes(kTest)));
  }
  ClutteredScenesConfig configured() const {
    ClutteredScenesConfig config;
    config.path = folder_.path();
    config.height = config.width = kSide;
    config.classes = 4;
    config.validation_examples = kValidation;
    config.scene = {.canvas = kCanvas, .pieces = 12, .smallest_piece = 3, .largest_piece = 5, .smallest_scale = 1, .largest_scale = 2};
    return config;
  }
  std::string error_of(const std::function<void(ClutteredScenesConfig&)>& change) const {
    ClutteredScenesConfig config = configured();
    change(config);
    try {
      ClutteredScenesTask task(config);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  TemporaryFolder folder_;
};

// What `adatape predict` sees of a picture of a scene is the scene.
TEST_F(ClutteredScenesTest, PicturesOfScenesAreShownAsScenesAre) {
  const ClutteredScenesTask task(configured());
  const Preprocess preprocess = configured().scenes().preprocess();
  const Batch batch = task.held_out_batch(Split::kTest, 0, 1);
  const Picture picture = picture_of_planes(batch.images.const_data_ptr<float>(), preprocess);
  EXPECT_EQ(picture.height, kCanvas);
  at::Tensor shown = torch::empty({1, kCanvas, kCanvas});
  PlaneWriter(preprocess).write(centre_view(picture, preprocess), {}, shown.data_ptr<float>());
  EXPECT_TRUE(shown.allclose(batch.images[0], 0, 1e-6)) << (shown - batch.images[0]).abs().max();
  EXPECT_EQ(configured().scenes().class_names(), task.class_names());
}

// At scale 1 every pixel keeps its brightness, which tells its image: the box is exactly where the garment's pixels lie, and clutter comes
// from other images of the same split.
TEST_F(ClutteredScenesTest, TheBoxHoldsTheWholeGarmentAndNothingElseIsIt) {
  ClutteredScenesConfig config = configured();
  config.scene.largest_scale = 1;
  const ClutteredScenesTask task(config);
  int64_t clutter = 0;
  for (const auto& [split, first] : {std::pair{Split::kTest, 100}, std::pair{Split::kValidation, 10 + static_cast<int>(kTraining)}}) {
    const int64_t size = task.held_out_size(split);
    EXPECT_EQ(size, split == Split::kTest ? kTest : kValidation);
    const Batch batch = task.held_out_batch(split, 0, size);
    const at::Tensor boxes = task.held_out_boxes(split, 0, size);
    for (int64_t b = 0; b < size; ++b) {
      EXPECT_EQ(batch.labels[b].item<int64_t>(), (split == Split::kTest ? b : kTraining + b) % 4);
      const int64_t top = boxes[b][0].item<int64_t>(), left = boxes[b][1].item<int64_t>();
      EXPECT_EQ(boxes[b][2].item<int64_t>(), 4);
      EXPECT_EQ(boxes[b][3].item<int64_t>(), 6);
      for (int64_t y = 0; y < kCanvas; ++y) {
        for (int64_t x = 0; x < kCanvas; ++x) {
          const int value = brightness(batch.images[b], y, x);
          const bool inside = y >= top && y < top + 4 && x >= left && x < left + 6;
          EXPECT_EQ(value == first + b, inside) << b << " " << y << " " << x;
          EXPECT_TRUE(value == 0 || (value >= first && value < first + size)) << value;
          clutter += !inside && value > 0;
        }
      }
    }
  }
  EXPECT_GT(clutter, 17 * 30);
}

TEST_F(ClutteredScenesTest, GarmentsDifferInPlaceAndSize) {
  const ClutteredScenesTask task(configured());
  const at::Tensor boxes = task.held_out_boxes(Split::kTest, 0, kTest);
  for (const int64_t column : {0, 1, 3}) {
    EXPECT_GT((boxes.select(1, column).max() - boxes.select(1, column).min()).item<int64_t>(), 2) << column;
  }
  EXPECT_GE(boxes.select(1, 2).min().item<int64_t>(), 4);
  EXPECT_LE(boxes.select(1, 3).max().item<int64_t>(), 14);  // twice 6, and the soft edge
  EXPECT_TRUE(torch::equal(boxes.narrow(0, 3, 2), task.held_out_boxes(Split::kTest, 3, 2)));
  EXPECT_TRUE(
      torch::equal(task.held_out_batch(Split::kTest, 0, kTest).images.narrow(0, 3, 2), task.held_out_batch(Split::kTest, 3, 2).images));
}

TEST_F(ClutteredScenesTest, TrainingIsAStreamOfSeedAndPlace) {
  const ClutteredScenesTask task(configured());
  const Batch small = task.training_batch(3, 5, 4), large = task.training_batch(3, 0, 24), other = task.training_batch(4, 5, 4);
  EXPECT_TRUE(torch::equal(large.images.narrow(0, 20, 4), small.images));
  EXPECT_TRUE(torch::equal(large.labels.narrow(0, 20, 4), small.labels));
  EXPECT_TRUE(torch::equal(large.examples.narrow(0, 20, 4), small.examples));
  EXPECT_FALSE(torch::equal(other.images, small.images));
  // An epoch shows each training image once, and the next epoch's scene of it is another.
  const Batch two = task.training_batch(3, 0, 2 * kTraining);
  const at::Tensor images = two.examples % kTraining;
  EXPECT_TRUE(torch::equal(std::get<0>(images.narrow(0, 0, kTraining).sort()), torch::arange(kTraining)));
  EXPECT_EQ(task.epoch_size(), kTraining);
  const int64_t first = images[0].item<int64_t>();
  const int64_t again = (images.narrow(0, kTraining, kTraining) == first).nonzero()[0].item<int64_t>() + kTraining;
  EXPECT_EQ(two.labels[0].item<int64_t>(), two.labels[again].item<int64_t>());
  EXPECT_FALSE(torch::equal(two.images[0], two.images[again]));
}

TEST_F(ClutteredScenesTest, WhatDoesNotFitIsNamed) {
  EXPECT_EQ(error_of([](ClutteredScenesConfig&) {}), "");
  EXPECT_THAT(error_of([](ClutteredScenesConfig& c) { c.scene.canvas = 19; }), HasSubstr("a garment that fits the canvas of 19 pixels"));
  EXPECT_THAT(error_of([](ClutteredScenesConfig& c) { c.scene.largest_piece = 11; }), HasSubstr("got 3 and 11"));
  EXPECT_THAT(error_of([](ClutteredScenesConfig& c) { c.scene.smallest_scale = 3; }), HasSubstr("smallest_scale <= largest_scale"));
  EXPECT_THAT(error_of([](ClutteredScenesConfig& c) { c.validation_examples = 48; }), HasSubstr("below the 48 images"));
  EXPECT_THAT(error_of([](ClutteredScenesConfig& c) { c.classes = 3; }), HasSubstr("expected labels below 3"));
  const ClutteredScenesTask task(configured());
  EXPECT_THROW(task.held_out_batch(Split::kTest, 5, 5), Error);
  EXPECT_THROW(task.held_out_boxes(Split::kTest, 5, 5), Error);
  EXPECT_THROW(task.held_out_size(Split::kTrain), Error);
}

}  // namespace
}  // namespace adatape
