#include "adatape/nn/segments.h"

#include <torch/csrc/autograd/autograd.h>

#include "tests/error_of.h"
#include "tests/nn/nn_cases.h"

namespace adatape::testing {
namespace {

std::shared_ptr<const Segments> shared(Segments segments) { return std::make_shared<const Segments>(std::move(segments)); }

TEST(SegmentsTest, AdjacentRowsAreOneSegment) {
  Segments segments;
  add_segment(segments, {0, 0, 2});
  add_segment(segments, {0, 2, 3});
  add_segment(segments, {1, 5, 0});
  add_segment(segments, {1, 5, 1});
  ASSERT_EQ(segments.size(), 2);
  EXPECT_EQ(segments[0].count, 5);
  EXPECT_EQ(segments[1].first, 5);
}

TEST(SegmentsTest, RowsAreCopiedThereAndTheirGradientsBack) {
  for (const torch::ScalarType type : {torch::kFloat32, torch::kFloat64, torch::kBFloat16}) {
    const torch::Tensor a = torch::arange(8).view({4, 2}).to(type).requires_grad_(),
                        b = (torch::arange(6).view({3, 2}) + 100).to(type).requires_grad_();
    const torch::Tensor joined = join_segments({a, b}, shared({{1, 0, 2}, {0, 3, 1}, {1, 2, 1}, {0, 0, 1}}));
    const torch::Tensor expected = torch::cat({b.narrow(0, 0, 2), a.narrow(0, 3, 1), b.narrow(0, 2, 1), a.narrow(0, 0, 1)});
    EXPECT_TRUE(at::equal(joined, expected));
    const torch::Tensor weights = torch::arange(10).view({5, 2}).to(type);
    (joined * weights).sum().backward();
    EXPECT_TRUE(at::equal(b.grad(), weights.index_select(0, torch::tensor({0, 1, 3}))));
    EXPECT_TRUE(at::equal(a.grad(), torch::tensor({8, 9, 0, 0, 0, 0, 4, 5}).view({4, 2}).to(type)));  // rows 1 and 2 are not named
  }
}

TEST(SegmentsTest, GradientsCanBeDifferentiatedAgain) {
  const torch::Tensor a = torch::randn({4, 2}).requires_grad_(), b = torch::randn({3, 2}).requires_grad_(),
                      w = torch::randn({5, 2}).requires_grad_();
  const torch::Tensor joined = join_segments({a, b}, shared({{1, 0, 2}, {0, 3, 1}, {1, 2, 1}, {0, 0, 1}}));
  const auto first = torch::autograd::grad({(joined * w).sum()}, {a, b}, {}, true, true);
  const torch::Tensor again = torch::autograd::grad({first[0].square().sum() + 2 * first[1].square().sum()}, {w})[0];
  const torch::Tensor expected = 2 * w.detach() * torch::tensor({2, 2, 1, 2, 1}).unsqueeze(1);
  EXPECT_TRUE(at::allclose(again, expected));
}

TEST(SegmentsTest, AWholeSourceIsReturnedAsItIs) {
  const torch::Tensor a = torch::randn({4, 2}), strided = torch::randn({2, 4}).t();
  EXPECT_EQ(join_segments({a}, shared({{0, 0, 4}})).data_ptr(), a.data_ptr());
  EXPECT_TRUE(at::equal(join_segments({a}, shared({{0, 1, 2}})), a.narrow(0, 1, 2)));
  EXPECT_TRUE(
      at::equal(join_segments({strided, a}, shared({{0, 2, 2}, {1, 0, 1}})), torch::cat({strided.narrow(0, 2, 2), a.narrow(0, 0, 1)})));
  EXPECT_EQ(join_segments({a}, shared({})).size(0), 0);
  EXPECT_EQ(join_segments({a}, shared({})).size(1), 2);
}

TEST(SegmentsTest, Errors) {
  const torch::Tensor a = torch::zeros({3, 2});
  EXPECT_THAT(error_of([&] { join_segments({}, shared({})); }), ::testing::HasSubstr("expected at least one tensor, got none"));
  EXPECT_THAT(error_of([&] { join_segments({a}, shared({{1, 0, 1}})); }), ::testing::HasSubstr("expected sources 0 .. 0, got 1"));
  EXPECT_THAT(error_of([&] {
                join_segments({a}, shared({{0, 2, 2}}));
              }),
              ::testing::HasSubstr("expected rows within 0 .. 2, got 2 and the 2 from there on"));
}

}  // namespace
}  // namespace adatape::testing
