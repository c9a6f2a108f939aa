// Thresholds drawn while training: keyed by step and example, within the range, and of no concern to evaluation.
#include "adatape/core/rng.h"
#include "adatape/nn/tape_reader.h"
#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kWidth = 8, kBatch = 64;

// Every row of the bank is the same, so each step weighs its 4 rows equally: h = t / 4 exactly.
struct DrawnThresholds : ::testing::Test {
  DrawnThresholds() {
    config.before_block = 0;
    config.max_tape_tokens = 20;
    config.threshold = 1;
    config.rows_per_step = 4;
    config.key_split = 4;
    config.mlp_width = 8;
    bank.values = torch::ones({100, kWidth});
  }

  std::vector<int64_t> lengths(const std::vector<int64_t>& examples, bool training, uint64_t step = 3, int64_t index = 0) const {
    TapeReader reader(config, index, kWidth);
    at::Generator generator = parameter_generator(1, 0);
    reader.initialize(generator);
    const auto batch = static_cast<int64_t>(examples.size());
    ForwardContext context;
    context.training = training;
    context.seed = 11;
    context.step = step;
    context.examples = torch::tensor(examples);
    TapeReading reading;
    reader.forward(testing::random_pack(std::vector<int64_t>(examples.size(), 1), kWidth, 2), testing::random_tensor({batch, kWidth}, 3),
                   bank, context, reading);
    return {reading.lengths.data_ptr<int64_t>(), reading.lengths.data_ptr<int64_t>() + batch};
  }
  static std::vector<int64_t> all() {
    std::vector<int64_t> examples;
    for (int64_t i = 0; i < kBatch; ++i) examples.push_back(1000 + i);
    return examples;
  }

  TapeReaderConfig config;
  BankRows bank;
};

TEST_F(DrawnThresholds, SpreadOverTheRangeInTrainingAlone) {
  config.random_threshold = {1, 4};
  EXPECT_EQ(lengths(all(), false), std::vector<int64_t>(kBatch, 4));
  const std::vector<int64_t> drawn = lengths(all(), true);
  const torch::Tensor uniform = counter_uniform(11, 3, site(Site::kThreshold), torch::tensor(all()), 1);
  for (int64_t b = 0; b < kBatch; ++b)
    EXPECT_EQ(drawn[b], static_cast<int64_t>(std::ceil(4 * (1 + 3 * uniform[b][0].item<double>() - 1e-5)))) << b;
  EXPECT_GT(*std::max_element(drawn.begin(), drawn.end()) - *std::min_element(drawn.begin(), drawn.end()), 8);
}

TEST_F(DrawnThresholds, AreKeyedByStepAndExampleAndSharedByReaders) {
  config.random_threshold = {1, 4};
  const std::vector<int64_t> together = lengths(all(), true);
  EXPECT_EQ(lengths({1007}, true).front(), together[7]);
  EXPECT_NE(lengths(all(), true, 4), together);
  EXPECT_EQ(lengths(all(), true, 3, /*index=*/1), together);
}

TEST_F(DrawnThresholds, AreSharesOfTheBanksTape) {
  config.max_tape_tokens = std::nullopt;  // 25 steps
  config.threshold = 0.04;
  config.random_threshold = {0.04, 0.2};
  EXPECT_EQ(lengths(all(), false), std::vector<int64_t>(kBatch, 4));
  const std::vector<int64_t> drawn = lengths(all(), true);
  EXPECT_GE(*std::min_element(drawn.begin(), drawn.end()), 4);
  EXPECT_GT(*std::max_element(drawn.begin(), drawn.end()), 15);
  EXPECT_LE(*std::max_element(drawn.begin(), drawn.end()), 20);
}

TEST_F(DrawnThresholds, BadRangesAreNamed) {
  const auto error = [&](const std::vector<double>& range, const std::string& halting = "threshold") {
    return error_of([&] {
      TapeReaderConfig changed = config;
      changed.random_threshold = range;
      changed.halting = halting;
      changed.resolve(0, kWidth, 4);
    });
  };
  EXPECT_EQ(error({}), "no error");
  EXPECT_EQ(error({1, 20}), "no error");
  EXPECT_THAT(error({1}), HasSubstr("model.readers.0.random_threshold: expected [low, high]"));
  EXPECT_THAT(error({4, 1}), HasSubstr("got 2 numbers, 4 and 1"));
  EXPECT_THAT(error({4, 21}), HasSubstr("high <= 20"));
  EXPECT_THAT(error({1, 4}, "none"), HasSubstr("halts by a threshold"));
}

}  // namespace
}  // namespace adatape
