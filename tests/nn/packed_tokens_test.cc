#include "adatape/nn/packed_tokens.h"

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using Kind = TokenKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::layout_of;
using testing::random_pack;

std::vector<int64_t> numbers(const torch::Tensor& x) {
  const torch::Tensor whole = x.to(torch::kInt64).contiguous();
  return {whole.data_ptr<int64_t>(), whole.data_ptr<int64_t>() + whole.numel()};
}

// One feature: token i of the pack has the value i.
PackedTokens counting(std::vector<int64_t> lengths, std::vector<Kind> kinds = {}) {
  auto layout = layout_of(std::move(lengths), std::move(kinds));
  return {torch::arange(layout->total(), torch::kFloat32).unsqueeze(1), layout};
}

std::vector<std::string> rows_named(const Segments& segments) {
  std::vector<std::string> names;
  for (const Segment& s : segments)
    names.push_back(std::to_string(s.source) + ":" + std::to_string(s.first) + "+" + std::to_string(s.count));
  return names;
}

TEST(PackLayoutTest, Ragged) {
  const auto layout = layout_of({2, 0, 3}, {Kind::kClass, Kind::kInput, Kind::kInput, Kind::kTape, Kind::kInput});
  EXPECT_EQ(layout->batch(), 3);
  EXPECT_EQ(layout->total(), 5);
  EXPECT_EQ(layout->longest(), 3);
  EXPECT_FALSE(layout->uniform());
  EXPECT_THAT(layout->offsets(), ElementsAre(0, 2, 2, 5));
  EXPECT_THAT(numbers(layout->offsets_tensor()), ElementsAre(0, 2, 2, 5));
  EXPECT_EQ(layout->cumulative_lengths().scalar_type(), torch::kInt32);
  EXPECT_THAT(numbers(layout->example_of_token()), ElementsAre(0, 0, 2, 2, 2));
  EXPECT_THAT(numbers(layout->rows_of(Kind::kTape)), ElementsAre(3));
  EXPECT_THAT(numbers(layout->rows_but(Kind::kTape)), ElementsAre(0, 1, 2, 4));
  EXPECT_THAT(rows_named(*layout->segments_of_tape()), ElementsAre("0:3+1"));
  EXPECT_THAT(rows_named(*layout->segments_but_tape()), ElementsAre("0:0+3", "0:4+1"));
  EXPECT_THAT(rows_named(*layout->restore_kinds()), ElementsAre("0:0+3", "1:0+1", "0:3+1"));
  EXPECT_THAT(layout->lengths_of(Kind::kInput), ElementsAre(1, 0, 2));
  EXPECT_EQ(layout->count(Kind::kClass), 1);
}

TEST(PackLayoutTest, EmptyAndSingle) {
  const auto none = layout_of({});
  EXPECT_EQ(none->batch(), 0);
  EXPECT_EQ(none->total(), 0);
  EXPECT_FALSE(none->uniform());
  EXPECT_THAT(numbers(none->offsets_tensor()), ElementsAre(0));
  const auto empty = layout_of({0});
  EXPECT_TRUE(empty->uniform());
  EXPECT_EQ(empty->example_of_token().numel(), 0);
  const auto one = layout_of({4});
  EXPECT_TRUE(one->uniform());
  EXPECT_EQ(one->longest(), 4);
}

TEST(PackLayoutTest, Errors) {
  EXPECT_THAT(error_of([] { layout_of({1, -2}); }), HasSubstr("expected lengths >= 0, got -2"));
  EXPECT_THAT(error_of([] { layout_of({1, 2}, {Kind::kTape}); }), HasSubstr("expected a kind for each of 3 tokens, got 1"));
}

TEST(PackLayoutTest, PlansGroupEqualLengths) {
  const auto queries = layout_of({2, 0, 1, 2}), keys = layout_of({3, 5, 1, 3});
  const AttentionPlan plan = plan_attention(*queries, *keys);
  ASSERT_EQ(plan.groups.size(), 2u);
  EXPECT_EQ(plan.groups[0].count, 1);
  EXPECT_THAT(numbers(plan.groups[0].query_rows), ElementsAre(2));
  EXPECT_THAT(numbers(plan.groups[0].key_rows), ElementsAre(8));
  EXPECT_EQ(plan.groups[1].count, 2);
  EXPECT_EQ(plan.groups[1].key_length, 3);
  EXPECT_THAT(numbers(plan.groups[1].query_rows), ElementsAre(0, 1, 3, 4));
  EXPECT_THAT(numbers(plan.groups[1].key_rows), ElementsAre(0, 1, 2, 9, 10, 11));
  EXPECT_THAT(numbers(plan.restore), ElementsAre(1, 2, 0, 3, 4));
  EXPECT_TRUE(plan_attention(*layout_of({0, 0}), *layout_of({2, 3})).groups.empty());
  EXPECT_FALSE(plan_attention(*layout_of({2, 2}), *layout_of({3, 3})).restore.defined());
  EXPECT_THAT(error_of([&] { plan_attention(*queries, *layout_of({1})); }), HasSubstr("got 4 and 1"));
}

TEST(PackedTokensTest, Append) {
  const PackedTokens pack = counting({2, 0, 1}, {Kind::kClass, Kind::kInput, Kind::kInput});
  const torch::Tensor added = torch::tensor({10.f, 20.f, 21.f}).unsqueeze(1);
  const PackedTokens result = append_tokens(pack, added, {1, 2, 0}, Kind::kTape);
  EXPECT_THAT(numbers(result.values), ElementsAre(0, 1, 10, 20, 21, 2));
  EXPECT_THAT(result.layout->lengths(), ElementsAre(3, 2, 1));
  EXPECT_THAT(result.layout->kinds(), ElementsAre(Kind::kClass, Kind::kInput, Kind::kTape, Kind::kTape, Kind::kTape, Kind::kInput));
  EXPECT_THAT(numbers(append_tokens(pack, torch::zeros({0, 1}), {0, 0, 0}, Kind::kTape).values), ElementsAre(0, 1, 2));
  EXPECT_THAT(error_of([&] {
                append_tokens(pack, added, {1, 2}, Kind::kTape);
              }),
              HasSubstr("expected a count for each of 3 examples, got 2"));
  EXPECT_THAT(error_of([&] { append_tokens(pack, added, {1, 1, 0}, Kind::kTape); }), HasSubstr("expected 2 tokens, got 3"));
}

TEST(PackedTokensTest, Prepend) {
  const torch::Tensor shared = torch::tensor({9.f});
  for (const auto& lengths : std::vector<std::vector<int64_t>>{{2, 2}, {1, 3}}) {
    const PackedTokens result = prepend_token(counting(lengths), shared, Kind::kClass);
    if (lengths[0] == 2) {
      EXPECT_THAT(numbers(result.values), ElementsAre(9, 0, 1, 9, 2, 3));
    } else {
      EXPECT_THAT(numbers(result.values), ElementsAre(9, 0, 9, 1, 2, 3));
    }
    EXPECT_THAT(result.layout->lengths_of(Kind::kClass), ElementsAre(1, 1));
    EXPECT_EQ(result.layout->kinds()[0], Kind::kClass);
  }
  EXPECT_THAT(numbers(prepend_token(counting({1, 0}), torch::tensor({{7.f}, {8.f}}), Kind::kClass).values), ElementsAre(7, 0, 8));
  EXPECT_THAT(numbers(prepend_token(counting({0, 0}), shared, Kind::kClass).values), ElementsAre(9, 9));
}

TEST(PackedTokensTest, DroppingKeepsKinds) {
  const auto layout = layout_of({2, 1, 3}, {Kind::kClass, Kind::kInput, Kind::kInput, Kind::kInput, Kind::kTape, Kind::kTape});
  const auto kept = kept_layout(*layout, {0, 4, 5});
  EXPECT_THAT(kept->lengths(), ElementsAre(1, 0, 2));
  EXPECT_THAT(kept->kinds(), ElementsAre(Kind::kClass, Kind::kTape, Kind::kTape));
  EXPECT_THAT(kept_layout(*layout, {})->lengths(), ElementsAre(0, 0, 0));
}

TEST(PackedTokensTest, MeanLeavesClassTokensOut) {
  const PackedTokens plain = counting({2, 2});
  EXPECT_TRUE(mean_per_example(plain).equal(torch::tensor({{0.5f}, {2.5f}})));
  const PackedTokens mixed = counting({3, 0, 1, 2}, {Kind::kClass, Kind::kInput, Kind::kTape, Kind::kClass, Kind::kInput, Kind::kInput});
  EXPECT_TRUE(mean_per_example(mixed).equal(torch::tensor({{1.5f}, {0.f}, {0.f}, {4.5f}})));
}

TEST(PackedTokensTest, ClassTokens) {
  const PackedTokens pack = counting({2, 1}, {Kind::kClass, Kind::kInput, Kind::kClass});
  EXPECT_THAT(numbers(class_tokens(pack)), ElementsAre(0, 2));
  EXPECT_THAT(error_of([&] { class_tokens(counting({2, 1})); }), HasSubstr("expected one class token in each of 2 examples, got 0"));
}

TEST(PackedTokensTest, Gradients) {
  const auto layout = layout_of({2, 0, 1}, {Kind::kClass, Kind::kInput, Kind::kInput});
  testing::expect_gradients(
      [&](const std::vector<torch::Tensor>& x) {
        return mean_per_example(append_tokens(prepend_token({x[0], layout}, x[2], Kind::kInput), x[1], {1, 0, 2}, Kind::kTape));
      },
      {random_pack({3}, 2, 1).values, random_pack({3}, 2, 2).values, testing::random_tensor({2}, 3)});
}

}  // namespace
}  // namespace adatape
