#include "adatape/nn/tape_reader.h"

#include <set>

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::layout_of;
using testing::random_pack;
using testing::random_tensor;

constexpr int64_t kWidth = 8;

TapeReaderConfig config_of(const std::function<void(TapeReaderConfig&)>& change = [](TapeReaderConfig&) {}) {
  TapeReaderConfig config;
  config.max_tape_tokens = 4;
  config.threshold = 1.5;
  change(config);
  config.resolve(0, kWidth, 2);
  return config;
}

struct Reading {
  PackedTokens tokens;
  TapeReading reading;
};

struct Fixture {
  explicit Fixture(const TapeReaderConfig& config, const std::vector<int64_t>& rows = {12, 9, 0, 3}) : reader(config, 0, kWidth) {
    at::Generator generator = parameter_generator(1, 0);
    reader.initialize(generator);
    testing::perturb(reader, 2);
    const auto bank_layout = layout_of(rows);
    bank = {random_tensor({bank_layout->total(), kWidth}, 3), bank_layout};
    x = random_pack(std::vector<int64_t>(rows.size(), 2), kWidth, 4);
    query = random_tensor({static_cast<int64_t>(rows.size()), kWidth}, 5);
    for (size_t b = 0; b < rows.size(); ++b) examples.push_back(static_cast<int64_t>(10 + b));
  }
  Reading read(bool training = false, uint64_t step = 1) const {
    Reading result;
    ForwardContext context;
    context.training = training;
    context.seed = 7;
    context.step = step;
    context.examples = torch::tensor(examples, torch::kInt64);
    torch::NoGradGuard no_grad;
    result.tokens = reader.forward(x, query, bank, context, result.reading);
    return result;
  }
  // Only example b of the same batch.
  Fixture alone(int64_t b) const {
    Fixture one = *this;
    one.bank = {testing::rows_of_example(bank.values, *bank.layout, b), layout_of({bank.layout->lengths()[b]})};
    one.x = {testing::rows_of_example(x.values, *x.layout, b), layout_of({2})};
    one.query = query.slice(0, b, b + 1);
    one.examples = {examples[b]};
    return one;
  }
  Fixture(const Fixture& other)
      : reader(other.reader.config, 0, kWidth), bank(other.bank), x(other.x), query(other.query), examples(other.examples) {
    const auto from = other.reader.named_parameters(), to = reader.named_parameters();
    torch::NoGradGuard no_grad;
    for (size_t i = 0; i < from.size(); ++i) to[i].tensor.data().copy_(from[i].tensor);
  }
  TapeReader reader;
  BankRows bank;
  PackedTokens x;
  torch::Tensor query;
  std::vector<int64_t> examples;
};

std::vector<int64_t> numbers(const torch::Tensor& x) {
  const torch::Tensor whole = x.to(torch::kInt64).contiguous();
  return {whole.data_ptr<int64_t>(), whole.data_ptr<int64_t>() + whole.numel()};
}

TEST(TapeReaderTest, ReadsUntilTheThresholdAndAppends) {
  const Fixture fixture(config_of());
  const auto [tokens, reading] = fixture.read();
  const std::vector<int64_t> lengths = numbers(reading.lengths);
  EXPECT_EQ(lengths[2], 0);  // an empty bank
  for (const int64_t b : {0, 1, 3}) {
    const torch::Tensor weights = reading.weights[b];
    double h = 0;
    int64_t steps = 0;
    while (steps < 4 && h < 1.5 - 1e-5 && reading.indices[b][steps][0].item<int64_t>() >= 0) h += weights[steps++][0].item<double>();
    EXPECT_EQ(lengths[b], steps);
    EXPECT_GE(steps, b == 3 ? 1 : 2);
  }
  for (int64_t b = 0; b < 4; ++b) EXPECT_EQ(tokens.layout->lengths()[b], 2 + lengths[b]);
  EXPECT_EQ(tokens.layout->lengths_of(TokenKind::kTape), lengths);
  // The first appended token is the merged rows through the tape MLP, with no residual.
  torch::NoGradGuard no_grad;
  EXPECT_LE(largest_difference(tokens.values[2], fixture.reader.mlp->forward(reading.tokens[0].slice(0, 0, 1))[0]), 1e-6);
  EXPECT_TRUE(tokens.values.slice(0, 0, 2).equal(fixture.x.values.slice(0, 0, 2)));
}

TEST(TapeReaderTest, TheBankRunsOut) {
  const auto [tokens, reading] = Fixture(config_of([](auto& c) { c.halting = "none", c.rows_per_step = 2; })).read();
  EXPECT_THAT(numbers(reading.lengths), ElementsAre(4, 4, 0, 2));
  EXPECT_EQ(reading.indices[3][1][1].item<int64_t>(), -1);  // three rows: two and one
  std::set<int64_t> read;
  for (const int64_t row : numbers(reading.indices[0])) EXPECT_TRUE(read.insert(row).second) << "row " << row << " was read twice";
}

TEST(TapeReaderTest, LongestTapeFromTheBank) {
  const auto bank = [](auto& c) { c.max_tape_tokens = std::nullopt, c.threshold = 1.0, c.rows_per_step = 2, c.halting = "none"; };
  EXPECT_THAT(numbers(Fixture(config_of(bank)).read().reading.lengths), ElementsAre(6, 5, 0, 2));
  // A threshold is then a share of ceil(rows / K): halting values reach it and not before.
  const auto reading = Fixture(config_of([&](auto& c) { bank(c), c.halting = "threshold", c.threshold = 0.6; })).read().reading;
  const std::vector<int64_t> lengths = numbers(reading.lengths);
  for (const auto& [b, longest] : std::vector<std::pair<int64_t, int64_t>>{{0, 6}, {1, 5}, {3, 2}}) {
    const double wanted = 0.6 * static_cast<double>(longest) - 1e-5;
    const int64_t n = lengths[b];
    EXPECT_TRUE(reading.halting[b][n - 1].item<double>() >= wanted || n == longest);
    EXPECT_LT(n > 1 ? reading.halting[b][n - 2].item<double>() : 0.0, wanted);
  }
}

// Examples of equal length are put in order together, others one by one.
TEST(TapeReaderTest, EqualAndUnequalExamplesAreOrderedAlike) {
  for (const std::string selection : {"given_order", "sorted", "random"}) {
    const Fixture ragged(config_of([&](auto& c) { c.selection = selection, c.halting = "none", c.rows_per_step = 2; }), {9, 9, 4});
    Fixture equal = ragged;
    equal.bank = {ragged.bank.values.narrow(0, 0, 18), layout_of({9, 9})};
    equal.x = {ragged.x.values.narrow(0, 0, 4), layout_of({2, 2})};
    equal.query = ragged.query.slice(0, 0, 2);
    equal.examples.resize(2);
    EXPECT_TRUE(equal.read().reading.indices.equal(ragged.read().reading.indices.slice(0, 0, 2))) << selection;
  }
}

TEST(TapeReaderTest, Controls) {
  const auto control = [](const std::string& selection) {
    return [selection](TapeReaderConfig& c) { c.selection = selection, c.halting = "none", c.rows_per_step = 2; };
  };
  const auto given = Fixture(config_of(control("given_order"))).read().reading;
  EXPECT_THAT(numbers(given.indices[0]), ElementsAre(0, 1, 2, 3, 4, 5, 6, 7));
  EXPECT_LE(largest_difference(given.weights[0], torch::full({4, 2}, 0.5)), 1e-6);
  EXPECT_THAT(numbers(given.indices[3]), ElementsAre(0, 1, 2, -1, -1, -1, -1, -1));

  const Fixture sorting(config_of(control("sorted")));
  const std::vector<int64_t> sorted = numbers(sorting.read().reading.indices[0]);
  torch::NoGradGuard no_grad;
  const torch::Tensor first = sorting.reader.norm->forward(sorting.bank.values).select(1, 0);
  for (size_t i = 1; i < sorted.size(); ++i) EXPECT_LE(first[sorted[i - 1]].item<float>(), first[sorted[i]].item<float>());

  const auto all = Fixture(config_of([](auto& c) { c.selection = "all"; })).read();
  EXPECT_THAT(numbers(all.reading.lengths), ElementsAre(12, 9, 0, 3));

  const Fixture drawing(config_of(control("random")));
  const std::vector<int64_t> drawn = numbers(drawing.read().reading.indices[0]), again = numbers(drawing.read().reading.indices[0]),
                             later = numbers(drawing.read(false, 2).reading.indices[0]);
  EXPECT_EQ(drawn, again);
  EXPECT_NE(drawn, later);
  EXPECT_EQ(std::set<int64_t>(drawn.begin(), drawn.end()).size(), 8u);
}

TEST(TapeReaderTest, NoiseMaskAndOrderBelongToTheExample) {
  const std::vector<std::function<void(TapeReaderConfig&)>> changes = {
      [](auto& c) { c.query_noise = 1.0; }, [](auto& c) { c.bank_mask = 0.4; },
      [](auto& c) { c.selection = "random", c.halting = "none", c.rows_per_step = 2; }};
  for (const auto& change : changes) {
    const Fixture fixture(config_of(change));
    const auto reading = fixture.read(true).reading;
    for (int64_t b = 0; b < 4; ++b) {
      const auto single = fixture.alone(b).read(true).reading;
      EXPECT_TRUE(single.indices[0].equal(reading.indices[b]));
      EXPECT_LE(largest_difference(single.weights[0], reading.weights[b]), 1e-6);
    }
    EXPECT_FALSE(fixture.read(true, 2).reading.indices.equal(reading.indices));
  }
  // Neither noise nor mask outside training.
  const auto plain = Fixture(config_of()).read().reading;
  EXPECT_TRUE(Fixture(config_of([](auto& c) { c.query_noise = 1.0, c.bank_mask = 0.4; })).read().reading.indices.equal(plain.indices));
}

TEST(TapeReaderTest, MaskedRowsAreNeverRead) {
  const Fixture fixture(config_of([](auto& c) { c.bank_mask = 0.999, c.halting = "none", c.rows_per_step = 1; }), {12, 12, 12});
  EXPECT_LT(fixture.read(true).reading.lengths.sum().item<int64_t>(), 3);  // about 36 rows x 0.001
}

TEST(TapeReaderTest, ALearnedQueryIsAParameter) {
  const TapeReader with(config_of([](auto&c) { c.query = "learned"; }), 0, kWidth), without(config_of(), 0, kWidth);
  EXPECT_TRUE(with.query.defined());
  EXPECT_FALSE(without.query.defined());
  EXPECT_EQ(with.named_parameters().size(), without.named_parameters().size() + 1);
}

TEST(TapeReaderConfigTest, AutoBecomesNumbers) {
  const TapeReaderConfig config = config_of();
  EXPECT_EQ(config.rows_per_step, 2);  // floor(4 / 1.5)
  EXPECT_EQ(config.key_split, 2);
  EXPECT_EQ(config.mlp_width, 4 * kWidth);
  EXPECT_EQ(config_of([](auto& c) { c.max_tape_tokens = 6, c.threshold = 0.3 * 10; }).rows_per_step, 2);
}

TEST(TapeReaderConfigTest, Errors) {
  const auto error = [](const std::function<void(TapeReaderConfig&)>& change) { return error_of([&] { config_of(change); }); };
  EXPECT_THAT(error([](auto& c) { c.threshold = 5; }), HasSubstr("model.readers.0.threshold: expected at most max_tape_tokens = 4, got 5"));
  EXPECT_THAT(error([](auto& c) { c.max_tape_tokens = std::nullopt; }), HasSubstr("1 (a share of the longest tape), got 1.5"));
  EXPECT_THAT(error([](auto& c) { c.threshold = INFINITY; }), HasSubstr("expected a finite number"));
  EXPECT_THAT(error([](auto& c) { c.halting = "none"; }), HasSubstr("model.readers.0.rows_per_step: expected a number"));
  EXPECT_THAT(error([](auto& c) { c.key_split = 3; }), HasSubstr("key_split: expected a divisor of model.width 8, got 3"));
}

}  // namespace
}  // namespace adatape
