// adatape::packed_attention: hand-made numbers, its kernel against the reference on every form of batch, gradients, error texts.
#include "adatape/ops/packed_attention/packed_attention.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include "adatape/ops/packed_attention/packed_attention_kernels.h"
#include "adatape/ops/packed_linear/packed_linear.h"
#include "tests/error_of.h"

namespace adatape::ops {
namespace {

using Lengths = std::vector<int64_t>;

at::Tensor offsets_of(const Lengths& lengths) {
  Lengths offsets{0};
  for (const int64_t length : lengths) offsets.push_back(offsets.back() + length);
  return torch::tensor(offsets, at::kLong);
}

int64_t sum_of(const Lengths& lengths) {
  int64_t sum = 0;
  for (const int64_t length : lengths) sum += length;
  return sum;
}

enum class Lie { kAdjacent, kApart, kLastApart };  // kApart: tokens, as parts of a projection; kLastApart: the numbers of a head too

struct Form {
  std::string name;
  Lengths queries, keys;
  int64_t heads, key_heads, width;
  bool causal;
  Lie lie;
  bool tied = false;  // all keys of all examples are one: equal scores
};

void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

at::Tensor random_tokens(const Form& form, int64_t count, int64_t heads, at::ScalarType type = at::kFloat) {
  if (form.lie == Lie::kLastApart) return at::randn({count, heads, form.width, 2}).to(type).select(3, 1);
  const at::Tensor x = at::randn({count, 3, heads, form.width}).to(type);
  return form.lie == Lie::kApart ? x.select(1, 1) : x.select(1, 1).contiguous();
}

PackedAttentionInputs make_inputs(const Form& form, at::ScalarType type = at::kFloat) {
  at::manual_seed(3);
  const int64_t queries = sum_of(form.queries), keys = sum_of(form.keys);
  const at::Tensor query = random_tokens(form, queries, form.heads, type), key = random_tokens(form, keys, form.key_heads, type),
                   value = random_tokens(form, keys, form.key_heads, type);
  if (form.tied) key.copy_(key[0].clone().unsqueeze(0).expand(key.sizes()));
  return {query, key, value, offsets_of(form.queries), offsets_of(form.keys)};
}

PackedAttentionInputs as_double(const PackedAttentionInputs& in) {
  return {in.query.to(at::kDouble), in.key.to(at::kDouble), in.value.to(at::kDouble), in.query_offsets, in.key_offsets};
}

using Backward = std::function<void(const PackedAttentionInputs&, const PackedAttentionSaved&, const PackedAttentionOptions&,
                                    const PackedAttentionGradients&)>;

std::vector<at::Tensor> gradients_of(const Backward& kernel, const PackedAttentionInputs& in, const PackedAttentionResult& result,
                                     const at::Tensor& grad, const PackedAttentionOptions& options) {
  const PackedAttentionGradients gradients{at::full(in.query.sizes(), NAN, in.query.options()),
                                           at::full(in.key.sizes(), NAN, in.key.options()),
                                           at::full(in.value.sizes(), NAN, in.value.options())};
  kernel(in, {grad, std::get<0>(result), std::get<1>(result)}, options, gradients);
  return {gradients.query, gradients.key, gradients.value};
}

void expect_near(const at::Tensor& got, const at::Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(got.sizes(), expected.sizes()) << what;
  if (got.numel() == 0) return;
  const at::Tensor a = got.to(at::kDouble), b = expected.to(at::kDouble);
  EXPECT_LE((a - b).abs().max().item<double>(), tolerance * std::max(1.0, b.abs().max().item<double>())) << what;
}

class PackedAttentionForms : public testing::TestWithParam<Form> {};

INSTANTIATE_TEST_SUITE_P(All, PackedAttentionForms,
                         testing::Values(Form{"Empty", {}, {}, 2, 2, 8, false, Lie::kAdjacent},
                                         Form{"NoTokens", {0, 0}, {0, 0}, 2, 2, 8, false, Lie::kAdjacent},
                                         Form{"Single", {1}, {1}, 2, 2, 8, false, Lie::kAdjacent},
                                         Form{"Ragged", {3, 0, 50, 17, 1, 101}, {3, 0, 50, 17, 1, 101}, 3, 3, 64, false, Lie::kApart},
                                         Form{"OddWidth", {5, 33}, {7, 40}, 2, 2, 13, false, Lie::kApart},
                                         Form{"NarrowHeads", {16, 17, 18}, {16, 17, 18}, 4, 4, 8, false, Lie::kApart},
                                         Form{"KeysWithoutQueries", {0, 2, 9}, {5, 30, 9}, 2, 2, 16, false, Lie::kAdjacent},
                                         Form{"Causal", {6, 100, 1}, {6, 100, 1}, 2, 2, 32, true, Lie::kApart},
                                         Form{"CausalLastQueries", {2, 60, 0}, {9, 77, 3}, 2, 2, 20, true, Lie::kAdjacent},
                                         Form{"MultiQuery", {5, 70}, {5, 70}, 6, 1, 24, false, Lie::kAdjacent},
                                         Form{"GroupedQuery", {5, 70}, {8, 75}, 6, 3, 24, true, Lie::kApart},
                                         Form{"FewQueries", {1, 2, 3, 1, 1}, {17, 40, 5, 129, 8}, 4, 4, 8, false, Lie::kApart},
                                         Form{"FewQueriesOddWidth", {1, 3, 0, 2}, {1, 24, 6, 9}, 2, 2, 13, false, Lie::kAdjacent},
                                         Form{"FewGroupedQueries", {1, 3, 2}, {9, 70, 2}, 6, 2, 48, true, Lie::kApart},
                                         Form{"Long", {1500}, {1500}, 1, 1, 16, true, Lie::kApart},
                                         Form{"LastApart", {3, 0, 50, 17}, {3, 4, 50, 17}, 4, 2, 24, false, Lie::kLastApart},
                                         Form{"CausalLastApart", {60, 2, 1}, {77, 2, 3}, 2, 2, 13, true, Lie::kLastApart},
                                         Form{"Tied", {1, 2, 60, 5}, {9, 40, 60, 7}, 3, 3, 20, false, Lie::kAdjacent, /*tied=*/true},
                                         Form{"TiedCausal", {3, 60}, {3, 60}, 2, 2, 16, true, Lie::kApart, /*tied=*/true}),
                         [](const testing::TestParamInfo<Form>& test) { return test.param.name; });

TEST_P(PackedAttentionForms, KernelAgreesWithTheReferenceInDouble) {
  const PackedAttentionInputs in = make_inputs(GetParam());
  const PackedAttentionOptions options{GetParam().causal, 0.3};
  const PackedAttentionResult expected = packed_attention_forward_reference(as_double(in), options);
  const at::Tensor grad = random_tokens(GetParam(), in.query.size(0), in.query.size(1));  // lies as the query does
  const auto wanted = gradients_of(packed_attention_backward_reference, as_double(in), expected, grad.to(at::kDouble), options);
  for (const int vector_bytes : {32, 64}) {  // 64 runs as 32 where there is no AVX-512
    SCOPED_TRACE(vector_bytes);
    const PackedAttentionResult got = packed_attention_forward_cpu(in, options, vector_bytes);
    expect_near(std::get<0>(got), std::get<0>(expected), 2e-6, "output");
    expect_near(std::get<1>(got), std::get<1>(expected), 2e-6, "logsumexp");
    const Backward kernel = [&](const auto& inputs, const auto& saved, const auto& of, const auto& out) {
      packed_attention_backward_cpu(inputs, saved, of, out, vector_bytes);
    };
    const auto gradients = gradients_of(kernel, in, got, grad, options);
    for (size_t i = 0; i < 3; ++i) expect_near(gradients[i], wanted[i], 5e-6, "gradient " + std::to_string(i));
  }
}

// Plain calls in one dtype, example by example.
at::Tensor plain_attention(const PackedAttentionInputs& in, const Form& form, double scale, at::ScalarType type) {
  std::vector<at::Tensor> parts{in.query.narrow(0, 0, 0).to(type)};
  int64_t query = 0, key = 0;
  for (size_t b = 0; b < form.queries.size(); ++b) {
    const int64_t queries = form.queries[b], keys = form.keys[b];
    const auto heads_first = [&](const at::Tensor& x, int64_t first, int64_t count) {
      return x.narrow(0, first, count).transpose(0, 1).to(type).repeat_interleave(form.heads / x.size(1), 0);
    };
    if (queries > 0) {
      at::Tensor scores = at::matmul(heads_first(in.query, query, queries), heads_first(in.key, key, keys).transpose(1, 2)) * scale;
      if (form.causal) scores = scores.masked_fill(at::ones({queries, keys}, at::kBool).triu(keys - queries + 1), -INFINITY);
      parts.push_back(at::matmul(scores.softmax(-1), heads_first(in.value, key, keys)).transpose(0, 1));
    }
    query += queries;
    key += keys;
  }
  return at::cat(parts).to(at::kDouble);
}

double largest_error(const at::Tensor& got, const at::Tensor& exact) {
  return got.numel() == 0 ? 0 : (got.to(at::kDouble) - exact).abs().max().item<double>();
}

// On inputs that are bfloat16 numbers already: what is left is the rounding of the softmax's weights.
TEST_P(PackedAttentionForms, Bfloat16ProductsRoundTheirFactorsAlone) {
  if (!has_bfloat16_products()) GTEST_SKIP() << "this processor has no bfloat16 products";
  PackedAttentionInputs in = make_inputs(GetParam());
  if (in.query.scalar_type() != at::kFloat) return;
  for (at::Tensor* x : {&in.query, &in.key, &in.value}) *x = x->to(at::kBFloat16).to(at::kFloat);
  const PackedAttentionOptions options{GetParam().causal, 0.3};
  const PackedAttentionResult got = packed_attention_forward_cpu(in, options, 0, at::kBFloat16),
                              expected = packed_attention_forward_reference(as_double(in), options);
  EXPECT_LE(largest_error(std::get<1>(got), std::get<1>(expected)), 1e-4);
  const double plain = largest_error(plain_attention(in, GetParam(), options.scale, at::kBFloat16), std::get<0>(expected));
  EXPECT_LE(largest_error(std::get<0>(got), std::get<0>(expected)), 2 * plain + 1e-6);
}

TEST_P(PackedAttentionForms, ReferenceBackwardIsTheDerivativeOfItsForward) {
  PackedAttentionInputs in = as_double(make_inputs(GetParam()));
  const PackedAttentionOptions options{GetParam().causal, 0.3};
  for (at::Tensor* x : {&in.query, &in.key, &in.value}) *x = x->detach().requires_grad_();
  at::Tensor loss, grad = at::randn(in.query.sizes()).to(at::kDouble);
  PackedAttentionResult result;
  {
    // Autograd through the reference's own ATen calls is independent of the formula in its backward.
    at::AutoGradMode mode(true);
    result = packed_attention_forward_reference(in, options);
    loss = (std::get<0>(result) * grad).sum();
  }
  if (in.query.numel() == 0) return;
  const auto wanted = torch::autograd::grad({loss}, {in.query, in.key, in.value});
  at::NoGradGuard no_grad;
  const auto got =
      gradients_of(packed_attention_backward_reference, in, {std::get<0>(result).detach(), std::get<1>(result).detach()}, grad, options);
  for (size_t i = 0; i < 3; ++i) expect_near(got[i], wanted[i], 1e-12, "gradient " + std::to_string(i));
}

TEST(PackedAttention, GivesHandMadeNumbers) {
  // One query that scores ln 3 and 0: weights 3/4 and 1/4.
  const at::Tensor query = at::ones({1, 1, 1}), key = torch::tensor({std::log(3.0f), 0.0f}).view({2, 1, 1});
  const at::Tensor value = torch::tensor({8.0f, 4.0f}).view({2, 1, 1});
  const auto [output, logsumexp] = packed_attention(query, key, value, offsets_of({1}), offsets_of({2}), {});
  EXPECT_NEAR(output.item<float>(), 7.0f, 1e-5);
  EXPECT_NEAR(logsumexp.item<float>(), std::log(4.0f), 1e-6);
}

TEST(PackedAttention, StaysExactForLargeScores) {
  const at::Tensor query = at::full({1, 1, 1}, 1e4f), key = torch::tensor({1.0f, 0.0f, -1.0f}).view({3, 1, 1});
  const at::Tensor value = torch::tensor({5.0f, 1e30f, 1e30f}).view({3, 1, 1});
  EXPECT_EQ(std::get<0>(packed_attention(query, key, value, offsets_of({1}), offsets_of({3}), {})).item<float>(), 5.0f);
}

TEST(PackedAttention, SelfAttentionIsTheSameFromOneProjection) {
  at::manual_seed(1);
  const at::Tensor qkv = at::randn({60, 3, 4, 16}).requires_grad_(), offsets = offsets_of({13, 0, 47}), grad = at::randn({60, 4, 16});
  for (const bool causal : {false, true}) {
    const PackedAttentionOptions options{causal, 0.25};
    const at::Tensor one = std::get<0>(packed_self_attention(qkv, offsets, options));
    const at::Tensor three = std::get<0>(packed_attention(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), offsets, offsets, options));
    EXPECT_TRUE(at::equal(one, three));
    EXPECT_TRUE(at::equal(torch::autograd::grad({(one * grad).sum()}, {qkv})[0], torch::autograd::grad({(three * grad).sum()}, {qkv})[0]));
  }
}

TEST(PackedAttention, DerivativesOfTheRegisteredOpAgreeWithFiniteDifferences) {
  at::manual_seed(2);
  const at::Tensor qkv = at::randn({9, 3, 2, 3}, at::kDouble).requires_grad_(), offsets = offsets_of({4, 5});
  const at::Tensor weight = at::randn({9, 2, 3}, at::kDouble);
  const auto loss = [&](const at::Tensor& x) { return (std::get<0>(packed_self_attention(x, offsets, {true, 0.7})) * weight).sum(); };
  const at::Tensor gradient = torch::autograd::grad({loss(qkv)}, {qkv})[0].flatten();
  at::NoGradGuard no_grad;
  for (int64_t i = 0; i < qkv.numel(); ++i) {
    const auto moved = [&](double by) {
      at::Tensor x = qkv.detach().clone();
      x.view({-1})[i] += by;
      return loss(x).item<double>();
    };
    EXPECT_NEAR((moved(1e-5) - moved(-1e-5)) / 2e-5, gradient[i].item<double>(), 1e-8) << i;
  }
}

TEST(PackedAttention, EqualScoresShareTheirWeightEvenly) {
  const at::Tensor value = torch::tensor({1.0f, 2.0f, 3.0f, 6.0f}).view({4, 1, 1}), key = at::full({4, 1, 1}, 5.0f);
  for (const int64_t queries : {1, 4}) {  // few, which read keys where they lie, and more
    const auto [output, logsumexp] = packed_attention(at::ones({queries, 1, 1}), key, value, offsets_of({queries}), offsets_of({4}), {});
    EXPECT_LE((output - 3).abs().max().item<double>(), 1e-6);
    EXPECT_LE((logsumexp - 5 - std::log(4.0)).abs().max().item<double>(), 1e-6);
  }
}

// What a token that is no number makes of three examples: the others keep their bits, its own has none from that token on (before it, a
// causal mask hides it or 0 times NaN).
void expect_nan_in_the_second_example(const at::Tensor& got, const at::Tensor& clean, int64_t length, int64_t from) {
  for (const int64_t first : {int64_t{0}, 2 * length}) EXPECT_TRUE(got.narrow(0, first, length).equal(clean.narrow(0, first, length)));
  EXPECT_TRUE(got.slice(0, length + from, 2 * length).isnan().all().item<bool>());
}

TEST(PackedAttention, NanStaysInItsExampleForwardAndBackward) {
  at::manual_seed(1);
  for (const int64_t length : {10, 2}) {  // 2: few queries
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(concat(length, " tokens, causal ", causal));
      const int64_t place = length / 2;
      const at::Tensor clean = at::randn({3 * length, 3, 2, 8}), dirty = clean.clone(), grad = at::randn({3 * length, 2, 8});
      dirty[length + place].fill_(NAN);
      const auto run = [&](const at::Tensor& qkv) {
        const at::Tensor leaf = qkv.detach().requires_grad_();
        const at::Tensor out = std::get<0>(packed_self_attention(leaf, offsets_of({length, length, length}), {causal, 0.4}));
        return std::make_pair(out.detach(), torch::autograd::grad({out}, {leaf}, {grad})[0]);
      };
      const auto got = run(dirty), expected = run(clean);
      expect_nan_in_the_second_example(got.first, expected.first, length, causal ? place : 0);
      expect_nan_in_the_second_example(got.second, expected.second, length, causal ? place : 0);
    }
  }
}

TEST(PackedAttention, NanStaysInItsExampleWithBfloat16Factors) {
  if (!has_bfloat16_products()) GTEST_SKIP() << "this processor has no bfloat16 products";
  at::manual_seed(1);
  const at::Tensor clean = at::randn({30, 3, 2, 8}), dirty = clean.clone(), offsets = offsets_of({10, 10, 10});
  dirty[15].fill_(NAN);
  for (const bool causal : {false, true}) {
    expect_nan_in_the_second_example(packed_self_attention_bfloat16(dirty, offsets, {causal, 0.4}),
                                     packed_self_attention_bfloat16(clean, offsets, {causal, 0.4}), 10, causal ? 5 : 0);
  }
}

TEST(PackedAttention, AGradientAskedForAloneIsTheSame) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const PackedAttentionInputs in = make_inputs({"", {5, 1, 30}, {8, 4, 30}, 4, 2, 8, false, Lie::kApart}, type);
    const at::Tensor grad = at::randn(in.query.sizes()).to(type);
    const auto gradients = [&](const std::vector<bool>& wanted) {
      std::vector<at::Tensor> all, leaves;
      for (const at::Tensor& x : {in.query, in.key, in.value}) {
        all.push_back(x.detach().requires_grad_(wanted[all.size()]));
        if (all.back().requires_grad()) leaves.push_back(all.back());
      }
      return torch::autograd::grad({std::get<0>(packed_attention(all[0], all[1], all[2], in.query_offsets, in.key_offsets, {false, 0.3}))},
                                   leaves, {grad});
    };
    const std::vector<at::Tensor> together = gradients({true, true, true});
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(gradients({i == 0, i == 1, i == 2})[0].equal(together[i])) << i << " " << type;
  }
}

TEST(PackedAttention, ResultsHaveTheSameBitsAloneInABatchAndOnAnyNumberOfThreads) {
  at::manual_seed(1);
  const Lengths lengths{70, 3, 129, 40};
  const at::Tensor qkv = at::randn({sum_of(lengths), 3, 2, 24}), grad = at::randn({sum_of(lengths), 2, 24});
  const auto run = [&](const at::Tensor& x, const Lengths& of, const at::Tensor& g) {
    const at::Tensor input = x.detach().clone().requires_grad_();
    const at::Tensor output = std::get<0>(packed_self_attention(input, offsets_of(of), {false, 0.2}));
    return std::make_pair(output.detach(), torch::autograd::grad({(output * g).sum()}, {input})[0]);
  };
  const auto together = run(qkv, lengths, grad);
  const int threads = at::get_num_threads();
  for (const int count : {1, 4}) {
    at::set_num_threads(count);
    const auto again = run(qkv, lengths, grad);
    EXPECT_TRUE(at::equal(again.first, together.first) && at::equal(again.second, together.second)) << count << " threads";
    int64_t first = 0;
    for (const int64_t length : lengths) {
      const auto alone = run(qkv.narrow(0, first, length), {length}, grad.narrow(0, first, length));
      EXPECT_TRUE(at::equal(alone.first, together.first.narrow(0, first, length))) << length;
      EXPECT_TRUE(at::equal(alone.second, together.second.narrow(0, first, length))) << length;
      first += length;
    }
  }
  at::set_num_threads(threads);
}

TEST(PackedAttention, LowPrecisionErrsAtMostTwiceAsMuchAsPlainCalls) {
  const Form form{"", {40, 9}, {40, 9}, 2, 2, 32, false, Lie::kAdjacent};
  const PackedAttentionInputs in = make_inputs(form, at::kBFloat16);
  const at::Tensor exact = plain_attention(in, form, 0.2, at::kDouble);
  const at::Tensor got = std::get<0>(packed_attention(in.query, in.key, in.value, in.query_offsets, in.key_offsets, {false, 0.2}));
  EXPECT_LE(largest_error(got, exact), 2 * largest_error(plain_attention(in, form, 0.2, at::kBFloat16), exact));
}

TEST(PackedAttention, MetaTensorsGetShapes) {
  const at::Tensor qkv = at::empty({7, 3, 2, 4}, at::device(at::kMeta)), offsets = at::empty({3}, at::device(at::kMeta).dtype(at::kLong));
  const auto [output, logsumexp] = packed_self_attention(qkv, offsets, {});
  EXPECT_EQ(output.sizes(), at::IntArrayRef({7, 2, 4}));
  EXPECT_EQ(logsumexp.sizes(), at::IntArrayRef({2, 7}));
}

TEST(PackedAttention, SaysWhichKernelRuns) {
  EXPECT_EQ(packed_attention_kernel_name(at::kCPU, at::kFloat), "cpu");
  EXPECT_EQ(packed_attention_kernel_name(at::kCPU, at::kDouble), "reference");
  EXPECT_EQ(packed_attention_kernel_name(at::kCUDA, at::kFloat), "reference");
}

TEST(PackedAttention, ErrorsSayWhatWasExpectedAndWhatCame) {
  const auto x = [](int64_t tokens, int64_t heads, int64_t width) { return at::randn({tokens, heads, width}); };
  const auto attend = [](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& qo, const at::Tensor& ko,
                         const PackedAttentionOptions& options = {}) {
    return error_of([&] { packed_attention(q, k, v, qo, ko, options); });
  };
  const at::Tensor four = offsets_of({1, 3});
  EXPECT_EQ(attend(at::randn({4, 8}), x(4, 2, 8), x(4, 2, 8), four, four),
            "packed_attention: expected query [tokens, heads, head width], got [4, 8]");
  EXPECT_EQ(attend(x(4, 2, 8).to(at::kInt), x(4, 2, 8), x(4, 2, 8), four, four),
            "packed_attention: expected query of a floating dtype, got Int");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 7), x(4, 2, 7), four, four),
            "packed_attention: expected key [tokens, key heads, 8] as query is [4, 2, 8], got [4, 2, 7]");
  EXPECT_EQ(attend(x(4, 4, 8), x(4, 3, 8), x(4, 3, 8), four, four), "packed_attention: expected key heads that divide 4 heads, got 3");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(5, 2, 8), four, four), "packed_attention: expected value [4, 2, 8] like key, got [5, 2, 8]");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8).to(at::kDouble), x(4, 2, 8), four, four),
            "packed_attention: expected key of dtype Float on cpu like query, got Double on cpu");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), four.to(at::kInt), four),
            "packed_attention: expected query_offsets of dtype Long, got Int");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), four, offsets_of({4})),
            "packed_attention: expected query_offsets and key_offsets of one batch, got 3 and 2");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), four, offsets_of({1, 2})),
            "packed_attention: expected key_offsets from 0 to 4, got 0 to 3");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), torch::tensor({0, 5, 4}, at::kLong), four),
            "packed_attention: expected query_offsets that never fall, got 5 then 4 at example 1");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), four, offsets_of({0, 4})),
            "packed_attention: expected keys for the queries of example 0, got 1 queries and no keys");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), four, offsets_of({2, 2}), {true, 1}),
            "packed_attention: expected at most as many queries as keys (causal), got 3 queries and 2 keys in example 1");
  EXPECT_EQ(attend(x(4, 2, 8), x(4, 2, 8), x(4, 2, 8), four, four, {false, 0}), "packed_attention: expected a finite scale > 0, got 0");
  EXPECT_EQ(error_of([&] {
              packed_self_attention(at::randn({4, 2, 2, 8}), four, {});
            }),
            "packed_attention: expected qkv [tokens, 3, heads, head width], got [4, 2, 2, 8]");
  const at::Tensor qkv = at::randn({4, 3, 1, 2}).requires_grad_();
  EXPECT_EQ(error_of([&] { packed_self_attention_bfloat16(qkv, four, {}); }),
            "packed_attention: expected qkv of which no gradient is asked, got one that requires it; call it under a NoGradGuard");
  EXPECT_EQ(error_of([&] {
              const at::Tensor out = std::get<0>(packed_self_attention(qkv, four, {}));
              const at::Tensor first = torch::autograd::grad({out.square().sum()}, {qkv}, {}, true, true)[0];
              torch::autograd::grad({first.sum()}, {qkv});
            }),
            "packed_attention: expected one differentiation, got a second one; it has no second derivative, detach its gradient first");
}

}  // namespace
}  // namespace adatape::ops
