#include "adatape/core/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <cmath>
#include <set>
#include <vector>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using Words = std::array<uint32_t, 4>;

TEST(Philox, KnownAnswersOfRandom123) {
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(CounterRng, EveryPartOfTheIdentityMatters) {
  std::set<uint64_t> firsts;
  const auto first = [](uint64_t seed, uint64_t step, uint32_t site, uint64_t example) {
    CounterRng rng(seed, step, site, example);
    const uint64_t high = rng.bits();
    return high << 32 | rng.bits();
  };
  size_t drawn = 0;
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{1} << 32, ~uint64_t{0}}) {
    for (const uint64_t other : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32}) {
      for (uint32_t place = 0; place < 8; ++place) {
        firsts.insert(first(value, other, site(Site::kDropout, place), 3));
        firsts.insert(first(3, value, site(Site::kSelection, place), other + 7));
        drawn += 2;
      }
    }
  }
  EXPECT_EQ(firsts.size(), drawn);
}

TEST(CounterRng, IsAFunctionOfItsIdentity) {
  CounterRng a(1, 2, 3, 4), b(1, 2, 3, 4);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(a.bits(), b.bits());
  EXPECT_EQ(a.uniform(), b.uniform());
  EXPECT_EQ(a.normal(), b.normal());
}

TEST(CounterRng, UniformAndNormalMoments) {
  CounterRng rng(7, 0, site(Site::kParameters), 0);
  constexpr int kDraws = 200000;
  double uniform_sum = 0, normal_sum = 0, normal_square = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double uniform = rng.uniform(), normal = rng.normal();
    ASSERT_GE(uniform, 0.0);
    ASSERT_LT(uniform, 1.0);
    uniform_sum += uniform;
    normal_sum += normal;
    normal_square += normal * normal;
  }
  // Five standard errors: 0.289 and 1 and 1.41 over sqrt(200 000).
  EXPECT_NEAR(uniform_sum / kDraws, 0.5, 0.0033);
  EXPECT_NEAR(normal_sum / kDraws, 0.0, 0.0112);
  EXPECT_NEAR(normal_square / kDraws, 1.0, 0.0158);
}

TEST(CounterRng, BelowIsInRangeAndEven) {
  CounterRng rng(7, 0, 1, 0);
  std::array<int, 6> seen{};
  for (int i = 0; i < 60000; ++i) ++seen.at(rng.below(6));
  for (const int count : seen) EXPECT_NEAR(count, 10000, 460);
  EXPECT_EQ(rng.below(1), 0u);
  EXPECT_LT(rng.below((uint64_t{1} << 63) + 1), (uint64_t{1} << 63) + 1);
  EXPECT_THROW(rng.below(0), Error);
}

TEST(CounterTensors, MomentsAndRange) {
  const at::Tensor examples = at::arange(1000, at::kLong);
  const at::Tensor uniform = counter_uniform(1, 2, 3, examples, 250), normal = counter_normal(1, 2, 3, examples, 250);
  EXPECT_EQ(uniform.sizes(), (at::IntArrayRef{1000, 250}));
  EXPECT_GE(uniform.min().item<float>(), 0.0f);
  EXPECT_LT(uniform.max().item<float>(), 1.0f);
  EXPECT_NEAR(uniform.mean().item<double>(), 0.5, 0.003);
  EXPECT_NEAR(uniform.var().item<double>(), 1.0 / 12, 0.001);
  EXPECT_TRUE(normal.isfinite().all().item<bool>());
  EXPECT_NEAR(normal.mean().item<double>(), 0.0, 0.01);
  EXPECT_NEAR(normal.var().item<double>(), 1.0, 0.0142);
  EXPECT_NEAR(normal.pow(4).mean().item<double>(), 3.0, 0.1);
  EXPECT_NEAR((normal.abs() > 2).to(at::kDouble).mean().item<double>(), 0.0455, 0.0021);
  // Neighbours, in a row and across rows, are not related: 250 000 products have a standard error of 0.002.
  EXPECT_NEAR((normal.slice(1, 1) * normal.slice(1, 0, -1)).mean().item<double>(), 0.0, 0.01);
  EXPECT_NEAR((normal.slice(0, 1) * normal.slice(0, 0, -1)).mean().item<double>(), 0.0, 0.01);
}

TEST(CounterTensors, ARowDoesNotDependOnItsBatch) {
  const at::Tensor examples = torch::tensor(std::vector<int64_t>{5, 9000000000, 2, -1});
  for (const auto draw : {counter_uniform, counter_normal}) {
    // Enough numbers that the batch is cut into several parallel chunks in the middle of rows.
    const at::Tensor all = draw(1, 2, 3, examples, 10001);
    EXPECT_TRUE(at::equal(draw(1, 2, 3, examples.flip(0), 10001).flip(0), all));
    for (int64_t row = 0; row < 4; ++row) EXPECT_TRUE(at::equal(draw(1, 2, 3, examples.slice(0, row, row + 1), 10001)[0], all[row]));
    EXPECT_TRUE(at::equal(draw(1, 2, 3, examples, 7), all.slice(1, 0, 7))) << "a shorter row is the beginning of a longer one";
    EXPECT_TRUE(at::equal(draw(1, 2, 3, at::stack({examples, examples}, 1).select(1, 1), 10001), all)) << "strided examples";
  }
}

TEST(CounterTensors, SitesStepsAndSeedsAreSeparate) {
  const at::Tensor examples = at::arange(100, at::kLong);
  const at::Tensor base = counter_normal(1, 2, site(Site::kDropout, 0), examples, 100);
  for (const at::Tensor& other :
       {counter_normal(1, 2, site(Site::kDropout, 1), examples, 100), counter_normal(1, 2, site(Site::kQueryNoise, 0), examples, 100),
        counter_normal(1, 3, site(Site::kDropout, 0), examples, 100), counter_normal(2, 2, site(Site::kDropout, 0), examples, 100),
        counter_normal(1, 2, site(Site::kDropout, 0), examples + 100, 100)}) {
    EXPECT_NEAR((base * other).mean().item<double>(), 0.0, 0.05);
  }
}

// Every draw is made of the stream's words in their order, however many blocks are made at a time.
TEST(CounterRng, DrawsTakeTheWordsInTheirOrder) {
  CounterRng words(5, 6, 7, 8), rng(5, 6, 7, 8);
  for (int i = 0; i < 40; ++i) {
    const uint64_t high = words.bits() >> 5, low = words.bits() >> 6;
    EXPECT_EQ(rng.uniform(), static_cast<double>((high << 26) | low) * 0x1p-53);
    const uint64_t first = words.bits(), second = words.bits(), word = (first << 32) | second;
    __extension__ using Wide = unsigned __int128;
    EXPECT_EQ(rng.below(1000), static_cast<uint64_t>((Wide{word} * 1000) >> 64));
  }
}

// A bound of 2^63 + 1 rejects nearly half of the words.
TEST(CounterRng, BelowRejectsWhatIsBiased) {
  CounterRng words(1, 1, 1, 1), rng(1, 1, 1, 1);
  const uint64_t bound = (uint64_t{1} << 63) + 1, biased = (uint64_t{0} - bound) % bound;
  __extension__ using Wide = unsigned __int128;
  for (int i = 0; i < 50; ++i) {
    Wide product;
    do {
      const uint64_t high = words.bits(), low = words.bits();
      product = Wide{(high << 32) | low} * bound;
    } while (static_cast<uint64_t>(product) < biased);
    EXPECT_EQ(rng.below(bound), static_cast<uint64_t>(product >> 64));
  }
}

TEST(CounterTensors, FirstUniformIsTheStreamsFirstWord) {
  CounterRng rng(1, 2, 3, 4);
  const at::Tensor row = counter_uniform(1, 2, 3, at::full({1}, 4, at::kLong), 50);
  for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(row[0][i].item<float>(), static_cast<float>(rng.bits() >> 8) * 0x1p-24f);
}

TEST(CounterTensors, EmptyAndWrongInput) {
  EXPECT_EQ(counter_uniform(1, 2, 3, at::empty({0}, at::kLong), 4).sizes(), (at::IntArrayRef{0, 4}));
  EXPECT_EQ(counter_normal(1, 2, 3, at::zeros({3}, at::kLong), 0).sizes(), (at::IntArrayRef{3, 0}));
  EXPECT_THROW(counter_uniform(1, 2, 3, at::zeros({3}, at::kFloat), 4), Error);
  EXPECT_THROW(counter_uniform(1, 2, 3, at::zeros({3, 1}, at::kLong), 4), Error);
  EXPECT_THROW(counter_uniform(1, 2, 3, at::Tensor(), 4), Error);
  EXPECT_THROW(counter_uniform(1, 2, 3, at::zeros({3}, at::kLong), -1), Error);
}

}  // namespace
}  // namespace adatape
