#include "adatape/tasks/parity/parity_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> values(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<int64_t>(), tensor.const_data_ptr<int64_t>() + tensor.numel()};
}

// The sequences of a batch as the numbers that the ids stand for: -1, 0, 1.
std::vector<std::vector<int>> sequences(const Batch& batch) {
  const std::vector<int64_t> ids = values(batch.symbols);
  std::vector<std::vector<int>> result;
  for (int64_t b = 0; b < batch.size(); ++b) {
    result.emplace_back();
    for (int64_t place = batch.offsets[b]; place < batch.offsets[b + 1]; ++place) result.back().push_back(static_cast<int>(ids[place]) - 1);
  }
  return result;
}

std::set<std::vector<int>> distinct(const Batch& batch) {
  const auto all = sequences(batch);
  return {all.begin(), all.end()};
}

// Labels by flipping a bit at each 1, unlike the task's count.
std::vector<int64_t> parities(const Batch& batch) {
  std::vector<int64_t> result;
  for (const auto& sequence : sequences(batch)) {
    bool odd = false;
    for (const int symbol : sequence) odd ^= symbol == 1;
    result.push_back(odd);
  }
  return result;
}

int nonzero(const std::vector<int>& sequence) {
  int count = 0;
  for (const int symbol : sequence) count += symbol != 0;
  return count;
}

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_EQ(values(a.symbols), values(b.symbols));
  EXPECT_EQ(a.offsets, b.offsets);
  EXPECT_EQ(values(a.labels), values(b.labels));
  EXPECT_EQ(values(a.examples), values(b.examples));
}

ParityConfig configured(const std::string& toml) {
  ParityConfig config;
  ConfigDocument::from_text(toml).read(config);
  return config;
}

std::string refusal(const std::string& toml) {
  try {
    ParityTask task(configured(toml));
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ParityTask, DescribesItself) {
  const ParityTask task(configured("length = 7"));
  const InputSpec spec = task.input_spec();
  EXPECT_EQ(spec.kind, InputSpec::Kind::kSymbols);
  EXPECT_EQ(spec.vocabulary, 3);
  EXPECT_EQ(spec.length, 7);
  EXPECT_EQ(spec.classes, 2);
  EXPECT_EQ(task.epoch_size(), 0);
  EXPECT_THAT(task.symbol_names(), ElementsAre("-1", "0", "1"));
  EXPECT_THAT(task.class_names(), ElementsAre("even", "odd"));
  EXPECT_EQ(configured("lengths = [5, 48, 47]\ntest_lengths = [96]").input_spec().length, 48);
}

TEST(ParityTask, LabelsAreParities) {
  const ParityTask task(configured("lengths = [1, 2, 9, 32]"));
  for (const Batch& batch :
       {task.training_batch(1, 0, 500), task.held_out_batch(Split::kValidation, 10, 500), task.held_out_batch(Split::kTest, 10, 500)}) {
    ASSERT_EQ(batch.size(), 500);
    EXPECT_EQ(values(batch.labels), parities(batch));
    EXPECT_EQ(batch.offsets.back(), batch.symbols.numel());
    EXPECT_FALSE(batch.images.defined());
  }
}

TEST(ParityTask, FirstSymbolTargetChangesLabelsOnly) {
  const ParityTask parity(configured("length = 20")), first(configured("length = 20\ntarget = 'first_symbol'"));
  const Batch a = parity.training_batch(3, 4, 600), b = first.training_batch(3, 4, 600);
  EXPECT_EQ(values(a.symbols), values(b.symbols));
  const auto all = sequences(b);
  const auto labels = values(b.labels);
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(labels[i], all[i].front() == 1 ? 1 : 0);
  EXPECT_NEAR(static_cast<double>(std::count(labels.begin(), labels.end(), 1)), 200, 60);
  EXPECT_THAT(first.class_names(), ElementsAre("not 1", "1"));
}

TEST(ParityTask, IsAFunctionOfSeedStepAndPlace) {
  const ParityConfig config = configured("lengths = [4, 30]\nnonzero_minimum = 1\nnonzero_maximum = 4");
  const ParityTask task(config), again(config);
  expect_equal(task.training_batch(5, 6, 64), again.training_batch(5, 6, 64));
  const auto whole = sequences(task.training_batch(5, 6, 64)), part = sequences(task.training_batch(5, 6, 10));
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin()));
  EXPECT_NE(sequences(task.training_batch(5, 7, 64)), whole);
  EXPECT_NE(sequences(task.training_batch(6, 6, 64)), whole);
}

TEST(ParityTask, HeldOutExamplesDoNotDependOnTheBatch) {
  const ParityTask task(configured("lengths = [16, 40]\ntest_lengths = [30, 50, 70]"));
  for (const Split split : {Split::kValidation, Split::kTest}) {
    const auto whole = sequences(task.held_out_batch(split, 0, 100));
    for (const int64_t first : {0, 1, 37, 99}) {
      const Batch one = task.held_out_batch(split, first, 1);
      EXPECT_EQ(sequences(one).front(), whole[first]);
      EXPECT_THAT(values(one.examples), ElementsAre(first));
    }
  }
  EXPECT_EQ(task.held_out_batch(Split::kTest, 5, 0).size(), 0);
}

TEST(ParityTask, SplitsShareNoSequence) {
  const ParityTask task(configured("length = 40"));
  const auto validation = distinct(task.held_out_batch(Split::kValidation, 0, 3000)),
             test = distinct(task.held_out_batch(Split::kTest, 0, 3000));
  std::set<std::vector<int>> training;
  for (uint64_t seed : {0u, 1u, 2u}) training.merge(distinct(task.training_batch(seed, 0, 3000)));
  EXPECT_EQ(training.size(), 9000u);
  EXPECT_EQ(validation.size(), 3000u);
  std::set<std::vector<int>> all = training;
  all.insert(validation.begin(), validation.end());
  all.insert(test.begin(), test.end());
  EXPECT_EQ(all.size(), 15000u);
}

TEST(ParityTask, ExampleNumbersAreUnique) {
  const ParityTask task(configured(""));
  std::set<int64_t> seen;
  for (uint64_t step = 0; step < 5; ++step) {
    for (const int64_t id : values(task.training_batch(1, step, 33).examples)) EXPECT_TRUE(seen.insert(id).second);
  }
  EXPECT_EQ(*seen.rbegin(), 5 * 33 - 1);
}

TEST(ParityTask, SymbolsAreUniformAndIndependent) {
  const ParityTask task(configured("length = 50"));
  const Batch batch = task.training_batch(9, 2, 4000);
  std::vector<double> singles(3), pairs(9);
  for (const auto& sequence : sequences(batch)) {
    for (size_t i = 0; i < sequence.size(); ++i) {
      ++singles[sequence[i] + 1];
      if (i % 2 == 1) ++pairs[3 * (sequence[i - 1] + 1) + sequence[i] + 1];
    }
  }
  const auto chi_square = [](const std::vector<double>& counts, double total) {
    double sum = 0;
    const double expected = total / static_cast<double>(counts.size());
    for (const double count : counts) sum += (count - expected) * (count - expected) / expected;
    return sum;
  };
  EXPECT_LT(chi_square(singles, 200'000), 20);  // 2 degrees of freedom: 4.5e-5
  EXPECT_LT(chi_square(pairs, 100'000), 35);    // 8 degrees of freedom: 2.7e-5
  const auto labels = values(batch.labels);
  EXPECT_NEAR(static_cast<double>(std::count(labels.begin(), labels.end(), 1)), 2000, 150);
}

TEST(ParityTask, MixesTrainingLengths) {
  const ParityTask task(configured("lengths = [3, 8, 21]"));
  for (const Batch& batch : {task.training_batch(1, 0, 3000), task.held_out_batch(Split::kValidation, 0, 3000)}) {
    std::map<size_t, int> counts;
    for (const auto& sequence : sequences(batch)) ++counts[sequence.size()];
    ASSERT_EQ(counts.size(), 3u);
    for (const size_t length : {3, 8, 21}) EXPECT_NEAR(counts[length], 1000, 150) << length;
  }
}

TEST(ParityTask, TakesTestLengthsInTurn) {
  const ParityTask task(configured("lengths = [3, 8]\ntest_lengths = [49, 50, 512]"));
  const Batch batch = task.held_out_batch(Split::kTest, 4, 5);
  EXPECT_THAT(batch.offsets, ElementsAre(0, 50, 562, 611, 661, 1173));
  EXPECT_EQ(task.held_out_batch(Split::kTest, 999'999, 1).size(), 1);
  const ParityTask as_training(configured("lengths = [3, 8]"));
  EXPECT_THAT(as_training.held_out_batch(Split::kTest, 0, 3).offsets, ElementsAre(0, 3, 11, 14));
}

TEST(ParityTask, DrawsTheNumberOfNonzeroEntries) {
  const ParityTask task(
      configured("length = 96\nnonzero_minimum = 1\nnonzero_maximum = 48\ntest_nonzero_minimum = 49\ntest_nonzero_maximum = 96"));
  const Batch training = task.training_batch(1, 0, 9600);
  std::vector<int> counts(97), places(96);
  int plus = 0, entries = 0;
  for (const auto& sequence : sequences(training)) {
    ++counts[nonzero(sequence)];
    for (size_t i = 0; i < sequence.size(); ++i) {
      places[i] += sequence[i] != 0;
      plus += sequence[i] == 1;
      entries += sequence[i] != 0;
    }
  }
  for (int n = 0; n <= 96; ++n) {
    if (n >= 1 && n <= 48) {
      EXPECT_NEAR(counts[n], 200, 80) << n;
    } else {
      EXPECT_EQ(counts[n], 0) << n;
    }
  }
  for (const int place : places) EXPECT_NEAR(place, 9600 * 24.5 / 96, 250);
  EXPECT_NEAR(plus, entries / 2.0, 5 * std::sqrt(entries / 4.0));
  EXPECT_EQ(values(training.labels), parities(training));

  for (const auto& sequence : sequences(task.held_out_batch(Split::kValidation, 0, 500))) {
    EXPECT_GE(nonzero(sequence), 1);
    EXPECT_LE(nonzero(sequence), 48);
  }
  std::set<int> seen;
  for (const auto& sequence : sequences(task.held_out_batch(Split::kTest, 0, 2000))) seen.insert(nonzero(sequence));
  EXPECT_EQ(*seen.begin(), 49);
  EXPECT_EQ(*seen.rbegin(), 96);
}

TEST(ParityTask, TestFollowsTrainingNonzeroUnlessToldOtherwise) {
  const ParityTask task(configured("length = 20\nnonzero_minimum = 5\nnonzero_maximum = 5"));
  for (const auto& sequence : sequences(task.held_out_batch(Split::kTest, 0, 100))) EXPECT_EQ(nonzero(sequence), 5);
}

TEST(ParityTask, CurriculumGrowsTrainingLengthsOnly) {
  const ParityTask task(configured("lengths = [128, 64, 4]\ncurriculum_from = 8\ncurriculum_steps = 200"));
  const auto lengths_at = [&](uint64_t step) {
    std::set<size_t> lengths;
    for (const auto& sequence : sequences(task.training_batch(1, step, 100))) lengths.insert(sequence.size());
    return lengths;
  };
  EXPECT_THAT(lengths_at(0), ElementsAre(4, 8));
  EXPECT_THAT(lengths_at(50), ElementsAre(4, 22, 38));
  EXPECT_THAT(lengths_at(100), ElementsAre(4, 36, 68));
  EXPECT_THAT(lengths_at(199), ElementsAre(4, 63, 127));
  EXPECT_THAT(lengths_at(200), ElementsAre(4, 64, 128));
  EXPECT_THAT(lengths_at(100'000), ElementsAre(4, 64, 128));
  std::set<size_t> validation;
  for (const auto& sequence : sequences(task.held_out_batch(Split::kValidation, 0, 100))) validation.insert(sequence.size());
  EXPECT_THAT(validation, ElementsAre(4, 64, 128));
}

TEST(ParityTask, CurriculumShorterThanTheNonzeroRangeFillsTheSequence) {
  const ParityTask task(configured("length = 40\nnonzero_minimum = 10\nnonzero_maximum = 30\ncurriculum_from = 4\ncurriculum_steps = 10"));
  for (const auto& sequence : sequences(task.training_batch(1, 0, 100))) EXPECT_EQ(nonzero(sequence), 4);
}

TEST(ParityTask, LossAndMetric) {
  const ParityTask task(configured("length = 6"));
  Batch batch = task.training_batch(1, 0, 4);
  batch.labels = torch::tensor({0, 1, 1, 0}, torch::kLong);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor logits =
      torch::tensor({{2.0f, 0.0f}, {2.0f, 0.0f}, {0.0f, 1.0f}, {nan, 0.0f}}, torch::TensorOptions().requires_grad(true));
  const at::Tensor loss = task.example_loss(logits, batch);
  EXPECT_NEAR(loss[0].item<double>(), std::log1p(std::exp(-2.0)), 1e-6);
  EXPECT_NEAR(loss[1].item<double>(), 2 + std::log1p(std::exp(-2.0)), 1e-6);
  loss[2].backward();
  EXPECT_NEAR(logits.grad()[2][0].item<double>(), 1 / (1 + std::exp(1.0)), 1e-6);
  EXPECT_TRUE(task.example_correct(logits, batch).equal(torch::tensor({true, false, true, false})));  // NaN is never right
  EXPECT_THROW(task.example_loss(torch::zeros({3, 2}), batch), Error);
  EXPECT_THROW(task.example_correct(torch::zeros({4, 3}), batch), Error);
}

TEST(ParityTask, CovariateCountsOnes) {
  const ParityTask task(configured("length = 17"));
  const Batch batch = task.training_batch(1, 0, 200);
  const at::Tensor covariate = task.example_covariate(batch);
  const auto all = sequences(batch);
  for (int64_t b = 0; b < 200; ++b) {
    EXPECT_EQ(covariate[b].item<float>(), static_cast<float>(std::count(all[b].begin(), all[b].end(), 1)));
  }
  EXPECT_EQ(task.covariate_name(), "number of 1s");

  ParityConfig several;
  several.test_lengths = {5, 8};
  const ParityTask lengths(several);
  EXPECT_EQ(lengths.covariate_name(), "length");
  EXPECT_TRUE(lengths.example_covariate(lengths.held_out_batch(Split::kTest, 0, 3)).equal(torch::tensor({5.0f, 8.0f, 5.0f})));

  ParityConfig counted;
  counted.test_nonzero_minimum = counted.test_nonzero_maximum = 7;
  const ParityTask entries(counted);
  EXPECT_EQ(entries.covariate_name(), "entries that are not 0");
  EXPECT_TRUE(entries.example_covariate(entries.held_out_batch(Split::kTest, 0, 2)).equal(torch::tensor({7.0f, 7.0f})));
}

TEST(ParityTask, VectorsHoldTheNumbersOfTheSymbols) {
  const std::string range = "length = 12\nnonzero_minimum = 1\nnonzero_maximum = 6\ntest_nonzero_minimum = 7\ntest_nonzero_maximum = 12\n";
  const ParityTask symbols(configured(range)), vectors(configured(range + "form = 'vector'"));
  const InputSpec spec = vectors.input_spec();
  EXPECT_EQ(spec.kind, InputSpec::Kind::kVectors);
  EXPECT_EQ(spec.dimension, 12);
  EXPECT_EQ(spec.length, 1);
  const auto check = [&](const Batch& expected, const Batch& got) {
    ASSERT_EQ(got.vectors.sizes(), (at::IntArrayRef{expected.size(), 12}));
    EXPECT_TRUE(got.vectors.equal((expected.symbols - 1).view({-1, 12}).to(at::kFloat)));
    EXPECT_FALSE(got.symbols.defined());
    EXPECT_EQ(got.offsets.back(), expected.size());
    EXPECT_EQ(values(got.labels), values(expected.labels));
    EXPECT_TRUE(vectors.example_covariate(got).equal(symbols.example_covariate(expected)));
  };
  check(symbols.training_batch(1, 2, 50), vectors.training_batch(1, 2, 50));
  check(symbols.held_out_batch(Split::kTest, 3, 50), vectors.held_out_batch(Split::kTest, 3, 50));
  EXPECT_EQ(vectors.held_out_batch(Split::kTest, 3, 0).vectors.sizes(), (at::IntArrayRef{0, 12}));
  EXPECT_EQ(refusal("lengths = [4, 6]\nform = 'vector'"),
            "task parity: expected one length and no curriculum with form = \"vector\", got lengths 4 .. 6 and curriculum_from 0");
  EXPECT_THAT(refusal("length = 4\ntest_lengths = [5]\nform = 'vector'"), HasSubstr("got lengths 4 .. 5"));
}

TEST(ParityTask, RefusesWhatDoesNotFit) {
  EXPECT_EQ(refusal("length = 5\nnonzero_maximum = 6"), "task parity: expected nonzero_maximum <= the shortest of length (5), got 6");
  EXPECT_EQ(refusal("nonzero_minimum = 3"), "task parity: expected nonzero_minimum <= nonzero_maximum, got 3 and 0");
  EXPECT_EQ(refusal("test_nonzero_minimum = 9\ntest_nonzero_maximum = 8"),
            "task parity: expected test_nonzero_minimum <= test_nonzero_maximum, got 9 and 8");
  EXPECT_EQ(refusal("nonzero_maximum = 30\ntest_lengths = [20]"),
            "task parity: expected nonzero_maximum <= the shortest of test_lengths (20), got 30");
  EXPECT_EQ(refusal("length = 10\ntest_nonzero_maximum = 11"),
            "task parity: expected test_nonzero_maximum <= the shortest of the test lengths (10), got 11");
  EXPECT_EQ(refusal("curriculum_steps = 10"),
            "task parity: expected curriculum_from and curriculum_steps both 0 or both above 0, got 0 and 10");
  EXPECT_EQ(refusal("curriculum_from = 33\ncurriculum_steps = 10"),
            "task parity: expected curriculum_from <= the longest training length (32), got 33");
  EXPECT_THAT(refusal("length = 0"), HasSubstr("length"));
  EXPECT_THAT(refusal("lengths = [4, 0]"), HasSubstr("lengths"));
  EXPECT_THAT(refusal("target = 'sum'"), HasSubstr("first_symbol"));

  const ParityTask task(configured(""));
  EXPECT_THROW(task.held_out_batch(Split::kTrain, 0, 1), Error);
  EXPECT_THROW(task.held_out_batch(Split::kValidation, 99'999, 2), Error);
  EXPECT_THROW(task.held_out_batch(Split::kTest, -1, 1), Error);
  EXPECT_THROW(task.training_batch(1, 0, 0), Error);
  EXPECT_EQ(task.held_out_size(Split::kValidation), 100'000);
  EXPECT_EQ(task.held_out_size(Split::kTest), 1'000'000);
}

TEST(ParityTask, ThreadsAgree) {
  const ParityTask task(configured("lengths = [10, 20]"));
  std::vector<Batch> expected;
  for (uint64_t step = 0; step < 20; ++step) expected.push_back(task.training_batch(1, step, 50));
  std::vector<std::vector<Batch>> got(4, std::vector<Batch>(20));
  std::vector<std::thread> threads;
  for (size_t t = 0; t < got.size(); ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t step = 0; step < 20; ++step) got[t][step] = task.training_batch(1, step, 50);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& batches : got) {
    for (size_t step = 0; step < 20; ++step) expect_equal(batches[step], expected[step]);
  }
}

// The promise is 2 million symbols a second on a free core; CPU time, so that a busy machine does not matter.
TEST(ParityTask, IsFast) {
  const ParityTask task(configured("length = 32"));
  const std::clock_t start = std::clock();
  for (uint64_t step = 0; step < 20; ++step) task.training_batch(1, step, 256);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  RecordProperty("symbols_per_second", std::to_string(20 * 256 * 32 / seconds));
  EXPECT_LT(seconds, 20 * 256 * 32 / 2e6);
}

}  // namespace
}  // namespace adatape
