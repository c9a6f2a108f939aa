// Noise on a reader's query: where it goes, what keys it, how it fades, and the log-density that the score-function term learns from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numbers>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/nn/tape_reader.h"

namespace adatape {
namespace {

constexpr int64_t kWidth = 8, kKeyWidth = 2, kRows = 9;

struct NoisyReading : testing::Test {
  NoisyReading() {
    config.before_block = 0;
    config.max_tape_tokens = 4;
    config.threshold = 2;
    config.rows_per_step = 2;
    config.key_split = kWidth / kKeyWidth;
    config.query_noise = 0.7;
    config.score_weight = 1;
    torch::manual_seed(5);
    bank.values = torch::randn({kRows, kWidth});
    query = torch::randn({3, kWidth});
  }

  TapeReading read(const std::vector<int64_t>& examples, bool training = true, uint64_t step = 3, uint64_t draw_step = 0) {
    config.resolve(0, kWidth, 4);
    reader = std::make_shared<TapeReader>(config, 0, kWidth);
    at::Generator generator = parameter_generator(1, 0);
    reader->initialize(generator);
    torch::Tensor queries = query.index_select(0, torch::tensor(examples));
    queries.set_requires_grad(true);
    given = queries;
    const int64_t batch = static_cast<int64_t>(examples.size());
    const PackedTokens tokens{torch::zeros({batch, kWidth}),
                              std::make_shared<const PackLayout>(std::vector<int64_t>(batch, 1), std::vector<TokenKind>{}, torch::kCPU)};
    ForwardContext context;
    context.training = training;
    context.seed = 11;
    context.step = step;
    context.draw_step = draw_step;
    context.examples = torch::tensor(examples);
    TapeReading reading;
    reader->forward(tokens, queries, bank, context, reading);
    return reading;
  }

  torch::Tensor noise_of(const std::vector<int64_t>& examples, int64_t features, uint64_t step = 3) const {
    return counter_normal(11, step, site(Site::kQueryNoise, 0), torch::tensor(examples), features);
  }

  TapeReaderConfig config;
  std::shared_ptr<TapeReader> reader;
  torch::Tensor query, given;
  BankRows bank;
};

TEST_F(NoisyReading, EvaluationKnowsNoNoise) {
  for (const std::string place : {"before_norm", "after_norm"}) {
    config.query_noise_place = place;
    config.query_noise = 5;
    const TapeReading noisy = read({0, 1, 2}), evaluated = read({0, 1, 2}, /*training=*/false);
    config.query_noise = 0;
    config.score_weight = 0;
    const TapeReading plain = read({0, 1, 2});
    EXPECT_TRUE(torch::equal(evaluated.indices, plain.indices) && torch::equal(evaluated.tokens, plain.tokens)) << place;
    EXPECT_FALSE(torch::equal(noisy.indices, plain.indices)) << place;
    EXPECT_FALSE(evaluated.query_log_density.defined() || plain.query_log_density.defined());
    config.score_weight = 1;
  }
}

TEST_F(NoisyReading, IsKeyedByStepAndExampleNotByPlaceInTheBatch) {
  for (const std::string place : {"before_norm", "after_norm"}) {
    config.query_noise_place = place;
    const TapeReading together = read({0, 1, 2}), alone = read({1}), later = read({0, 1, 2}, true, 4);
    EXPECT_TRUE(torch::equal(together.tokens[1], alone.tokens[0])) << place;
    EXPECT_TRUE(torch::equal(together.query_log_density[1], alone.query_log_density[0])) << place;
    EXPECT_FALSE(torch::equal(together.query_log_density, later.query_log_density)) << place;
  }
}

// log N(x; mean, s^2) = -|noise|^2 / 2 - features log(s sqrt(2 pi)), and its gradient by the mean is noise / s.
TEST_F(NoisyReading, GivesTheLogDensityOfARawQueryAndItsGradient) {
  const TapeReading reading = read({0, 1, 2});
  const torch::Tensor noise = noise_of({0, 1, 2}, kWidth);
  const torch::Tensor expected = -0.5 * noise.square().sum(1) - kWidth * std::log(0.7 * std::sqrt(2 * std::numbers::pi));
  EXPECT_TRUE(torch::allclose(reading.query_log_density, expected, 1e-5, 1e-5));
  reading.query_log_density.sum().backward();
  EXPECT_TRUE(torch::allclose(given.grad(), noise / 0.7, 1e-4, 1e-4));
}

// After the norm only the features that meet the keys are moved: the gradient is that of the LayerNorm, times noise / s there.
TEST_F(NoisyReading, GivesTheLogDensityOfANormalisedQueryAndItsGradient) {
  config.query_noise_place = "after_norm";
  const TapeReading reading = read({0, 1, 2});
  const torch::Tensor noise = noise_of({0, 1, 2}, kKeyWidth);
  const torch::Tensor expected = -0.5 * noise.square().sum(1) - kKeyWidth * std::log(0.7 * std::sqrt(2 * std::numbers::pi));
  EXPECT_TRUE(torch::allclose(reading.query_log_density, expected, 1e-5, 1e-5));
  reading.query_log_density.sum().backward();
  EXPECT_TRUE(torch::allclose(reader->norm->bias.grad().narrow(0, 0, kKeyWidth), (noise / 0.7).sum(0), 1e-4, 1e-4));
  const torch::Tensor same = query.clone().set_requires_grad(true);
  (reader->norm->forward(same).narrow(1, 0, kKeyWidth) * noise / 0.7).sum().backward();
  EXPECT_TRUE(torch::allclose(given.grad(), same.grad(), 1e-4, 1e-4));
}

TEST_F(NoisyReading, FadesOverTheStepsOfADraw) {
  config.query_noise_anneal_steps = 10;
  const auto deviation = [&](uint64_t draw_step) {
    const TapeReading reading = read({0, 1, 2}, true, 40, draw_step);
    if (!reading.query_log_density.defined()) return 0.0;
    reading.query_log_density.sum().backward();
    return (noise_of({0, 1, 2}, kWidth, 40) / given.grad()).mean().item<double>();
  };
  EXPECT_NEAR(deviation(0), 0.7, 1e-3);
  EXPECT_NEAR(deviation(5), 0.35, 1e-3);
  EXPECT_EQ(deviation(10), 0);
  EXPECT_EQ(deviation(1000), 0);
}

TEST_F(NoisyReading, ScoresNeedNoiseAndAQuery) {
  const auto error = [&](const std::function<void(TapeReaderConfig&)>& change) -> std::string {
    TapeReaderConfig changed = config;
    change(changed);
    try {
      changed.resolve(0, kWidth, 4);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error([](TapeReaderConfig&) {}), "");
  EXPECT_THAT(error([](TapeReaderConfig& c) { c.query_noise = 0; }),
              testing::HasSubstr("model.readers.0.score_weight: expected query_noise > 0"));
  EXPECT_THAT(error([](TapeReaderConfig& c) { c.selection = "sorted"; }), testing::HasSubstr("which reads without a query"));
}

}  // namespace
}  // namespace adatape
