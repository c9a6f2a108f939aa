#include "adatape/nn/attention.h"

#include <cmath>

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;
using testing::largest_difference;
using testing::layout_of;
using testing::random_tensor;
using testing::rows_of_example;

constexpr int64_t kHeads = 4, kDim = 3;

// The formula, one example and one head at a time.
torch::Tensor plain_attention(const torch::Tensor& query, const torch::Tensor& key, const torch::Tensor& value, const PackLayout& queries,
                              const PackLayout& keys, const AttentionOptions& options = {}) {
  std::vector<torch::Tensor> examples;
  const int64_t share = query.size(1) / key.size(1);
  const double scale = options.scale > 0 ? options.scale : 1 / std::sqrt(static_cast<double>(query.size(2)));
  for (int64_t b = 0; b < queries.batch(); ++b) {
    const torch::Tensor q = rows_of_example(query, queries, b), k = rows_of_example(key, keys, b), v = rows_of_example(value, keys, b);
    std::vector<torch::Tensor> heads;
    for (int64_t h = 0; h < query.size(1); ++h) {
      torch::Tensor scores = q.select(1, h).mm(k.select(1, h / share).t()) * scale;
      for (int64_t i = 0; i < q.size(0); ++i) {
        for (int64_t j = 0; j < k.size(0); ++j) {
          const int64_t distance = j - (k.size(0) - q.size(0) + i);
          if (options.relative_bias.defined()) {
            const int64_t reach = options.relative_bias.size(1) / 2;
            scores[i][j] += options.relative_bias[h][std::min(std::max(distance, -reach), reach) + reach];
          }
          if (options.causal && distance > 0) scores[i][j] = -INFINITY;
        }
      }
      heads.push_back(scores.softmax(1).mm(v.select(1, h / share)));
    }
    examples.push_back(torch::cat(heads, 1));
  }
  return torch::cat(examples);
}

struct Tensors {
  std::shared_ptr<const PackLayout> queries, keys;
  torch::Tensor query, key, value;
};

Tensors make(const std::vector<int64_t>& queries, const std::vector<int64_t>& keys, int64_t key_heads = kHeads,
             torch::Dtype dtype = torch::kFloat32) {
  const auto q = layout_of(queries), k = layout_of(keys);
  return {q, k, random_tensor({q->total(), kHeads, kDim}, 1, dtype), random_tensor({k->total(), key_heads, kDim}, 2, dtype),
          random_tensor({k->total(), key_heads, kDim}, 3, dtype)};
}

torch::Tensor run(const Tensors& x, const AttentionOptions& options = {}) {
  return packed_attention(x.query, x.key, x.value, *x.queries, *x.keys, options);
}

struct Shape {
  std::vector<int64_t> queries, keys;
};
const std::vector<Shape> kShapes = {
    {{3, 3}, {3, 3}}, {{5}, {5}},      {{1}, {1}}, {{4, 1, 4, 2}, {4, 1, 4, 2}}, {{2, 0, 1, 2}, {5, 3, 1, 4}},
    {{1, 1}, {6, 6}}, {{0, 2}, {0, 2}}};

TEST(AttentionTest, EqualsTheFormula) {
  for (const Shape& shape : kShapes) {
    for (const int64_t key_heads : {kHeads, int64_t{2}, int64_t{1}}) {
      for (const bool causal : {false, true}) {
        for (const bool biased : {false, true}) {
          const Tensors x = make(shape.queries, shape.keys, key_heads);
          AttentionOptions options;
          options.causal = causal;
          if (biased) options.relative_bias = random_tensor({kHeads, 5}, 4);
          if (biased && causal) options.scale = 0.3;
          EXPECT_LE(largest_difference(run(x, options), plain_attention(x.query, x.key, x.value, *x.queries, *x.keys, options)), 2e-6)
              << "batch " << shape.queries.size() << " first " << shape.queries[0] << " key heads " << key_heads << " causal " << causal
              << " biased " << biased;
        }
      }
    }
  }
}

TEST(AttentionTest, NoQueries) {
  EXPECT_EQ(run(make({0, 0}, {2, 3})).sizes(), (at::IntArrayRef{0, kHeads * kDim}));
  EXPECT_EQ(run(make({}, {})).sizes(), (at::IntArrayRef{0, kHeads * kDim}));
}

TEST(AttentionTest, AnExampleIsTheSameAlone) {
  const Tensors x = make({4, 1, 4, 2}, {4, 1, 4, 2});
  const torch::Tensor whole = run(x);
  for (int64_t b = 0; b < 4; ++b) {
    const auto alone = layout_of({x.queries->lengths()[b]});
    const torch::Tensor single = packed_attention(rows_of_example(x.query, *x.queries, b), rows_of_example(x.key, *x.keys, b),
                                                  rows_of_example(x.value, *x.keys, b), *alone, *alone);
    EXPECT_LE(largest_difference(rows_of_example(whole, *x.queries, b), single), 1e-6);
  }
}

TEST(AttentionTest, OtherExamplesMayHoldNaN) {
  Tensors x = make({3, 2, 3}, {3, 2, 3});
  const torch::Tensor before = run(x);
  for (torch::Tensor* tensor : {&x.query, &x.key, &x.value}) tensor->slice(0, 3, 5).fill_(NAN);
  const torch::Tensor after = run(x);
  for (const int64_t b : {0, 2}) EXPECT_TRUE(rows_of_example(after, *x.queries, b).equal(rows_of_example(before, *x.queries, b)));
}

TEST(AttentionTest, AKeptPlanIsTheSame) {
  const Tensors x = make({2, 3}, {4, 3});
  const AttentionPlan plan = plan_attention(*x.queries, *x.keys);
  EXPECT_TRUE(packed_attention(x.query, x.key, x.value, *x.queries, *x.keys, {}, &plan).equal(run(x)));
}

TEST(AttentionTest, TheCacheChangesNothing) {
  const Tensors x = make({5, 3}, {5, 3}, 2);
  AttentionOptions options;
  options.causal = true;
  const torch::Tensor whole = run(x, options);
  // Tokens arrive in pieces: lengths of each example at each call.
  const std::vector<std::vector<int64_t>> pieces = {{2, 0}, {1, 2}, {2, 1}};
  KeyValueCache cache;
  std::vector<int64_t> seen = {0, 0};
  for (const auto& piece : pieces) {
    std::vector<torch::Tensor> query, key, value;
    for (int64_t b = 0; b < 2; ++b) {
      const int64_t first = x.queries->offsets()[b] + seen[b];
      query.push_back(x.query.slice(0, first, first + piece[b]));
      key.push_back(x.key.slice(0, first, first + piece[b]));
      value.push_back(x.value.slice(0, first, first + piece[b]));
    }
    const auto layout = layout_of(piece);
    cache.append(torch::cat(key), torch::cat(value), layout);
    const torch::Tensor out = packed_attention(torch::cat(query), cache.key, cache.value, *layout, *cache.layout, options);
    for (int64_t b = 0; b < 2; ++b) {
      const int64_t first = x.queries->offsets()[b] + seen[b];
      EXPECT_LE(largest_difference(rows_of_example(out, *layout, b), whole.slice(0, first, first + piece[b])), 1e-6);
      seen[b] += piece[b];
    }
  }
  EXPECT_THAT(cache.layout->lengths(), ::testing::ElementsAre(5, 3));
  EXPECT_TRUE(cache.key.equal(x.key));
}

TEST(AttentionTest, Gradients) {
  const auto queries = layout_of({2, 0, 1}), keys = layout_of({3, 1, 2});
  AttentionOptions options;
  options.causal = true;
  testing::expect_gradients(
      [&](const std::vector<torch::Tensor>& x) {
        AttentionOptions with = options;
        with.relative_bias = x[3];
        return packed_attention(x[0], x[1], x[2], *queries, *keys, with);
      },
      {random_tensor({3, 2, 3}, 1), random_tensor({6, 1, 3}, 2), random_tensor({6, 1, 3}, 3), random_tensor({2, 3}, 4)});
}

TEST(AttentionTest, CountsPairs) {
  const auto queries = layout_of({2, 0, 1}), keys = layout_of({3, 1, 2});
  EXPECT_THAT(attention_pairs(*queries, *keys), ::testing::ElementsAre(6, 0, 2));
  const int64_t before = matrix_product_flops();
  run(make({2, 0, 1}, {3, 1, 2}));
  EXPECT_EQ(matrix_product_flops() - before, 4 * 8 * kHeads * kDim);
}

TEST(AttentionTest, Errors) {
  EXPECT_THAT(error_of([] { run(make({2, 1}, {2, 0})); }), HasSubstr("example 1 has 1 queries and no keys"));
  EXPECT_THAT(error_of([] { run(make({2}, {2}, 3)); }), HasSubstr("expected key heads that divide 4 heads, got 3"));
  Tensors x = make({2}, {3});
  x.key = x.key.slice(0, 1);
  EXPECT_THAT(error_of([&] { run(x); }), HasSubstr("expected 2 queries and 3 keys and values, got 2, 2 and 3"));
}

}  // namespace
}  // namespace adatape
