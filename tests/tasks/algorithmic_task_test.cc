#include "adatape/tasks/algorithmic/algorithmic_task.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> part(const at::Tensor& tensor, int64_t begin, int64_t end) {
  return {tensor.data_ptr<int64_t>() + begin, tensor.data_ptr<int64_t>() + end};
}

AlgorithmicConfig configured(const std::string& operation, const std::string& form) {
  AlgorithmicConfig config;
  config.operation = operation;
  config.form = form;
  config.shortest = 2;
  config.longest = 4;
  return config;
}

TEST(AlgorithmicAnswer, ByHand) {
  EXPECT_THAT(algorithmic_answer("copy", {3, 1, 4}, false), ElementsAre(3, 1, 4));
  EXPECT_THAT(algorithmic_answer("reverse", {3, 1, 4}, false), ElementsAre(4, 1, 3));
  EXPECT_THAT(algorithmic_answer("addition", {9, 5, 0, 7}, false), ElementsAre(1, 0, 2));
  EXPECT_THAT(algorithmic_answer("addition", {0, 5, 0, 4}, false), ElementsAre(9));
  EXPECT_THAT(algorithmic_answer("addition", {0, 5, 0, 4}, true), ElementsAre(0, 0, 9));
  EXPECT_THAT(algorithmic_answer("addition", {0, 0}, false), ElementsAre(0));
}

TEST(AlgorithmicTask, ADecoderReadsTheAnswerOneBehind) {
  for (const char* operation : {"copy", "reverse", "addition"}) {
    const AlgorithmicConfig config = configured(operation, "decoder");
    const AlgorithmicTask task(config);
    const Batch batch = task.training_batch(1, 2, 30);
    for (size_t b = 0; b < 30; ++b) {
      std::vector<int64_t> question = part(batch.symbols, batch.offsets[b], batch.offsets[b + 1]), digits;
      EXPECT_EQ(question.back(), config.stop_symbol());
      question.pop_back();
      for (const int64_t symbol : question) {
        if (symbol != 12) digits.push_back(symbol - 2);
      }
      const std::vector<int64_t> read = part(batch.decoder_symbols, batch.decoder_offsets[b], batch.decoder_offsets[b + 1]),
                                 asked = part(batch.labels, batch.decoder_offsets[b], batch.decoder_offsets[b + 1]);
      EXPECT_EQ(read.front(), config.start_symbol());
      EXPECT_EQ(asked.back(), config.stop_symbol());
      std::vector<int64_t> answer;
      for (const int64_t digit : algorithmic_answer(operation, digits, false)) answer.push_back(digit + 2);
      EXPECT_EQ(std::vector<int64_t>(asked.begin(), asked.end() - 1), answer);
      EXPECT_EQ(std::vector<int64_t>(read.begin() + 1, read.end()), answer);
      EXPECT_LE(static_cast<int64_t>(read.size()), task.input_spec().decoder_length);
      EXPECT_LE(static_cast<int64_t>(question.size()) + 1, task.input_spec().length);
    }
  }
}

TEST(AlgorithmicTask, LengthsThatAreTestedHavePlaces) {
  for (const char* operation : {"copy", "reverse", "addition"}) {
    AlgorithmicConfig config = configured(operation, "each");
    config.test_lengths = {config.longest + 7};
    const AlgorithmicTask task(config);
    const Batch batch = task.held_out_batch(Split::kTest, 0, 4);
    EXPECT_EQ(batch.offsets[1], task.input_spec().length) << operation;
  }
}

TEST(AlgorithmicTask, PlacesOfDigitsAreCountedFromBothEnds) {
  AlgorithmicConfig config = configured("addition", "each");
  config.places = "digits";
  config.shortest = config.longest = 2;
  config.test_lengths = {3};
  const AlgorithmicTask task(config);
  EXPECT_THAT(task.input_spec().axes, ElementsAre(4, 4));
  const Batch batch = task.training_batch(1, 2, 3);  // dd+dd, the start, three blanks
  ASSERT_EQ(batch.places.sizes(), (std::vector<int64_t>{3 * 9, 2}));
  for (int64_t b = 0; b < 3; ++b) {
    EXPECT_THAT(part(batch.places.contiguous(), b * 18, b * 18 + 18),
                ElementsAre(0, 1, 1, 0, -1, -1, 0, 1, 1, 0, -1, -1, 0, 2, 1, 1, 2, 0));
  }
  config.operation = "reverse";
  const AlgorithmicTask reverse(config);
  EXPECT_THAT(part(reverse.training_batch(1, 2, 1).places.contiguous(), 0, 10), ElementsAre(0, 1, 1, 0, -1, -1, 0, 1, 1, 0));
  EXPECT_FALSE(AlgorithmicTask(configured("copy", "each")).training_batch(1, 2, 1).places.defined());
  config.form = "decoder";
  EXPECT_THROW(AlgorithmicTask{config}, Error);
}

TEST(AlgorithmicTask, ACurriculumLengthensNumbersInTrainingAlone) {
  AlgorithmicConfig config = configured("copy", "each");  // 2 to 4 digits
  config.curriculum_steps = 100;
  const AlgorithmicTask task(config), plain(configured("copy", "each"));
  const auto longest = [](const Batch& batch) {
    int64_t digits = 0;
    for (size_t b = 0; b + 1 < batch.offsets.size(); ++b) digits = std::max(digits, (batch.offsets[b + 1] - batch.offsets[b] - 1) / 2);
    return digits;
  };
  EXPECT_EQ(longest(task.training_batch(1, 49, 60)), 2);
  EXPECT_EQ(longest(task.training_batch(1, 50, 60)), 3);
  EXPECT_EQ(longest(task.training_batch(1, 99, 60)), 3);
  EXPECT_TRUE(task.training_batch(1, 100, 60).symbols.equal(plain.training_batch(1, 100, 60).symbols));
  EXPECT_EQ(longest(task.held_out_batch(Split::kValidation, 0, 60)), 4);
}

TEST(AlgorithmicTask, BlanksAreAskedAndNothingElse) {
  const AlgorithmicTask task(configured("addition", "each"));
  const Batch batch = task.training_batch(1, 2, 30);
  EXPECT_FALSE(batch.decoder_symbols.defined());
  for (size_t b = 0; b < 30; ++b) {
    const auto symbols = part(batch.symbols, batch.offsets[b], batch.offsets[b + 1]),
               labels = part(batch.labels, batch.offsets[b], batch.offsets[b + 1]);
    for (size_t i = 0; i < symbols.size(); ++i) EXPECT_EQ(labels[i] == -1, symbols[i] != 13);
    const auto blanks = std::count(symbols.begin(), symbols.end(), 13);
    EXPECT_EQ(static_cast<int64_t>(symbols.size()), 2 * (blanks - 1) + 2 + blanks);
    EXPECT_LE(static_cast<int64_t>(symbols.size()), task.input_spec().length);
  }
}

TEST(AlgorithmicTask, LengthsAndRepeatability) {
  AlgorithmicConfig config = configured("reverse", "decoder");
  config.test_lengths = {4, 9};
  const AlgorithmicTask task(config);
  EXPECT_THAT(task.example_covariate(task.held_out_batch(Split::kTest, 1, 3)).eq(at::tensor({9.0f, 4.0f, 9.0f})).all().item<bool>(), true);
  const at::Tensor lengths = task.example_covariate(task.training_batch(1, 0, 200));
  EXPECT_EQ(lengths.min().item<double>(), 2);
  EXPECT_EQ(lengths.max().item<double>(), 4);
  const Batch whole = task.held_out_batch(Split::kValidation, 5, 6), some = task.held_out_batch(Split::kValidation, 5, 2);
  EXPECT_EQ(part(some.symbols, 0, some.offsets.back()), part(whole.symbols, 0, some.offsets.back()));
  EXPECT_FALSE(task.training_batch(1, 0, 5).symbols.equal(task.training_batch(2, 0, 5).symbols));
}

TEST(AlgorithmicTask, AllDigitsMustBeRight) {
  const AlgorithmicTask task(configured("copy", "decoder"));
  const Batch batch = task.held_out_batch(Split::kTest, 0, 3);
  at::Tensor logits = at::zeros({batch.decoder_offsets.back(), 14});
  for (int64_t i = 0; i < logits.size(0); ++i) logits[i][batch.labels[i]] = 9;
  EXPECT_TRUE(task.example_correct(logits, batch).all().item<bool>());
  EXPECT_LT(task.example_loss(logits, batch).max().item<double>(), 0.01);
  logits[batch.decoder_offsets[1]][0] = 20;
  EXPECT_THAT(part(task.example_correct(logits, batch).to(at::kLong), 0, 3), ElementsAre(1, 0, 1));
}

TEST(AlgorithmicConfig, TextAndRefusals) {
  const AlgorithmicConfig config = configured("addition", "decoder");
  EXPECT_EQ(config.write_text(config.read_text("12+34")), "12+34");
  EXPECT_THAT(config.read_text("1+2"), ElementsAre(3, 12, 4, config.stop_symbol()));
  EXPECT_THROW(config.read_text("1 2"), Error);
  EXPECT_THROW(config.read_text(""), Error);
  EXPECT_THROW(configured("addition", "each").read_text("12+34"), Error);
  AlgorithmicConfig bad = config;
  bad.shortest = 9;
  try {
    AlgorithmicTask task(bad);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected shortest <= longest, got 9 and 4"));
  }
}

}  // namespace
}  // namespace adatape
