#include "adatape/train/evaluate.h"

#include "adatape/tasks/image_classification/image_classification_task.h"
#include "test_run.h"
#include "tests/data/idx_files.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using testing::tiny_config;
using testing::TinyModel;

struct EvaluateTest : ::testing::Test {
  EvaluateTest() : config(tiny_config({"task.lengths=[1, 2, 5]"})), task(find_task("parity").make_task(*config.task)) {
    model.initialize(3, 0);
  }
  RunConfig config;
  std::unique_ptr<Task> task;
  TinyModel model;
};

TEST_F(EvaluateTest, BatchSizeDoesNotMatter) {
  const EvaluationResult one = evaluate(model, *task, Split::kTest, 97, 97, at::kCPU, false);
  const EvaluationResult many = evaluate(model, *task, Split::kTest, 97, 10, at::kCPU, false);
  EXPECT_EQ(one.examples, 97);
  EXPECT_EQ(one.accuracy, many.accuracy);
  EXPECT_NEAR(one.loss, many.loss, 1e-6);
  EXPECT_NEAR(one.auxiliary_losses.at("size"), many.auxiliary_losses.at("size"), 1e-6);
  EXPECT_DOUBLE_EQ(one.tokens, many.tokens);
  EXPECT_DOUBLE_EQ(one.flops, many.flops);
  // The test lengths come in turn: 1, 2, 5. Blocks of the tiny model: the sequence, then one token.
  EXPECT_NEAR(one.tokens, (1 * 33 + 2 * 32 + 5 * 32) / 97.0, 1e-12);
  EXPECT_NEAR(one.token_steps, one.tokens + 1, 1e-12);
  ASSERT_EQ(one.block_tokens.size(), 2u);
  EXPECT_NEAR(one.block_tokens[0], one.tokens, 1e-12);
  EXPECT_NEAR(one.block_tokens[1], 1, 1e-12);
  EXPECT_NEAR(one.flops, 4 * one.tokens + 16, 1e-12);
  EXPECT_TRUE(one.block_flops.empty());
  EXPECT_EQ(one.tape_length_mean, 0);
  EXPECT_EQ(one.covariate, "length");
  ASSERT_EQ(one.by_covariate.size(), 3u);
  double correct = 0;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(one.by_covariate[i].value, (std::vector<double>{1, 2, 5})[i]);
    EXPECT_EQ(one.by_covariate[i].examples, (std::vector<int64_t>{33, 32, 32})[i]);
    correct += one.by_covariate[i].accuracy * static_cast<double>(one.by_covariate[i].examples);
  }
  EXPECT_NEAR(correct / 97, one.accuracy, 1e-12);
  EXPECT_GT(one.examples_per_second, 0);
}

TEST_F(EvaluateTest, QuickGivesTheSameAccuracyAndLoss) {
  const EvaluationResult full = evaluate(model, *task, Split::kValidation, 50, 20, at::kCPU, false);
  int64_t last = 0;
  const EvaluationResult quick = evaluate(model, *task, Split::kValidation, 50, 20, at::kCPU, true, [&](int64_t done) { last = done; });
  EXPECT_EQ(quick.accuracy, full.accuracy);
  EXPECT_EQ(quick.loss, full.loss);
  EXPECT_EQ(quick.flops, 0);
  EXPECT_EQ(last, 50);
}

TEST_F(EvaluateTest, TapeLengthsOfAllReadersAddUp) {
  struct WithTape : TinyModel {
    ModelOutput forward(const Batch& batch, const ForwardOptions& options) override {
      ModelOutput output = TinyModel::forward(batch, options);
      output.readings.resize(2);
      output.readings[0].lengths = batch.examples % 2;  // 0 1 0 1 ...
      output.readings[1].lengths = torch::full_like(batch.examples, 3);
      return output;
    }
  } tape;
  const EvaluationResult result = evaluate(tape, *task, Split::kTest, 40, 15, at::kCPU, false);
  EXPECT_NEAR(result.tape_length_mean, 3.5, 1e-12);
  EXPECT_NEAR(result.tape_length_std, 0.5, 1e-9);
}

// Blocks that only some batches reach have means over all examples; parts say which block they are of.
TEST_F(EvaluateTest, BlocksThatSomeExamplesReach) {
  struct Halting : TinyModel {
    ModelOutput forward(const Batch& batch, const ForwardOptions& options) override {
      ModelOutput output = TinyModel::forward(batch, options);
      if (!options.record) return output;
      const std::vector<int64_t> one(static_cast<size_t>(batch.size()), 1);
      output.block_tokens = {one};
      output.work = {{"block 0 / attention", one, 5, {}, 0}, {"step 0 / halting", one, 2, {}, 0}, {"blocks", one, 100, {}, 0}};
      if (++recorded % 2 == 0) return output;
      output.block_tokens.push_back(one);
      output.work.push_back({"block 1 / feed-forward", one, 8, {}, 0});
      return output;
    }
    int recorded = 0;
  } halting;
  const EvaluationResult result = evaluate(halting, *task, Split::kTest, 40, 10, at::kCPU, false);
  EXPECT_EQ(result.block_tokens, (std::vector<double>{1, 0.5}));
  EXPECT_EQ(result.block_flops, (std::vector<double>{7, 4}));
  EXPECT_EQ(result.flops, 111);
}

// A model that says the same of every image.
struct SaysTheSame : Model {
  void initialize(uint64_t, uint64_t) override {}
  ModelOutput forward(const Batch& batch, const ForwardOptions&) override {
    ModelOutput output;
    output.logits = torch::tensor({2.0f, 0.5f, -1.0f}).repeat({batch.size(), 1});
    return output;
  }
};

TEST(EvaluateImages, CalibrationFollowsTheLoss) {
  const TemporaryFolder folder;
  for (const char* prefix : {"train", "t10k"}) {
    write_bytes(folder.file(std::string(prefix) + "-images-idx3-ubyte"), idx_bytes({6, 2, 2}, std::string(6 * 4, 'x')));
    write_bytes(folder.file(std::string(prefix) + "-labels-idx1-ubyte"), idx_bytes({6}, std::string("\0\1\2\0\1\2", 6)));
  }
  const auto error = [&](const std::string& loss) {
    ImageClassificationConfig images;
    images.path = folder.path();
    images.height = images.width = 2;
    images.classes = 3;
    images.validation_examples = 3;
    images.loss = loss;
    SaysTheSame model;
    return evaluate(model, ImageClassificationTask(images), Split::kTest, 6, 4, at::kCPU, false).classification.calibration_error();
  };
  // A third of the answers is right.
  EXPECT_NEAR(error("sigmoid"), 1 / (1 + std::exp(-2.0)) - 1.0 / 3, 1e-9);
  EXPECT_NEAR(error("softmax"), std::exp(2.0) / (std::exp(2.0) + std::exp(0.5) + std::exp(-1.0)) - 1.0 / 3, 1e-9);
}

TEST_F(EvaluateTest, IsCappedByTheSplit) {
  const int64_t size = task->held_out_size(Split::kValidation);
  EXPECT_EQ(evaluate(model, *task, Split::kValidation, size + 5, 5000, at::kCPU, true).examples, size);
  EXPECT_THAT(error_of([&] { evaluate(model, *task, Split::kTest, 0, 10, at::kCPU, true); }),
              ::testing::HasSubstr("at least one example, got 0"));
}

}  // namespace
}  // namespace adatape
