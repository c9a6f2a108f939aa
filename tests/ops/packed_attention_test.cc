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

struct Form {
  std::string name;
  Lengths queries, keys;
  int64_t heads, key_heads, width;
  bool causal, strided;
};

void PrintTo(const Form& form, std::ostream* out) { *out << form.name; }

PackedAttentionInputs make_inputs(const Form& form, at::ScalarType type = at::kFloat) {
  at::manual_seed(3);
  const auto tokens = [&](int64_t count, int64_t heads) {
    const at::Tensor x = at::randn({count, 3, heads, form.width}).to(type);
    return form.strided ? x.select(1, 1) : x.select(1, 1).contiguous();
  };
  const int64_t queries = sum_of(form.queries), keys = sum_of(form.keys);
  return {tokens(queries, form.heads), tokens(keys, form.key_heads), tokens(keys, form.key_heads), offsets_of(form.queries),
          offsets_of(form.keys)};
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
                         testing::Values(Form{"Empty", {}, {}, 2, 2, 8, false, false},
                                         Form{"NoTokens", {0, 0}, {0, 0}, 2, 2, 8, false, false},
                                         Form{"Single", {1}, {1}, 2, 2, 8, false, false},
                                         Form{"Ragged", {3, 0, 50, 17, 1, 101}, {3, 0, 50, 17, 1, 101}, 3, 3, 64, false, true},
                                         Form{"OddWidth", {5, 33}, {7, 40}, 2, 2, 13, false, true},
                                         Form{"NarrowHeads", {16, 17, 18}, {16, 17, 18}, 4, 4, 8, false, true},
                                         Form{"KeysWithoutQueries", {0, 2, 9}, {5, 30, 9}, 2, 2, 16, false, false},
                                         Form{"Causal", {6, 100, 1}, {6, 100, 1}, 2, 2, 32, true, true},
                                         Form{"CausalLastQueries", {2, 60, 0}, {9, 77, 3}, 2, 2, 20, true, false},
                                         Form{"MultiQuery", {5, 70}, {5, 70}, 6, 1, 24, false, false},
                                         Form{"GroupedQuery", {5, 70}, {8, 75}, 6, 3, 24, true, true},
                                         Form{"FewQueries", {1, 2, 3, 1, 1}, {17, 40, 5, 129, 8}, 4, 4, 8, false, true},
                                         Form{"FewQueriesOddWidth", {1, 3, 0, 2}, {1, 24, 6, 9}, 2, 2, 13, false, false},
                                         Form{"FewGroupedQueries", {1, 3, 2}, {9, 70, 2}, 6, 2, 48, true, true},
                                         Form{"Long", {1500}, {1500}, 1, 1, 16, true, true}),
                         [](const testing::TestParamInfo<Form>& test) { return test.param.name; });

TEST_P(PackedAttentionForms, KernelAgreesWithTheReferenceInDouble) {
  const PackedAttentionInputs in = make_inputs(GetParam());
  const PackedAttentionOptions options{GetParam().causal, 0.3};
  const PackedAttentionResult expected = packed_attention_forward_reference(as_double(in), options);
  const at::Tensor grad = at::randn(in.query.sizes());
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

// Against the reference on inputs that are bfloat16 numbers already: what is left is the rounding of the softmax's weights.
TEST_P(PackedAttentionForms, Bfloat16ProductsRoundTheirFactorsAlone) {
  if (!has_bfloat16_products()) GTEST_SKIP() << "this processor has no bfloat16 products";
  PackedAttentionInputs in = make_inputs(GetParam());
  if (in.query.scalar_type() != at::kFloat) return;
  for (at::Tensor* x : {&in.query, &in.key, &in.value}) *x = x->to(at::kBFloat16).to(at::kFloat);
  const PackedAttentionOptions options{GetParam().causal, 0.3};
  const PackedAttentionResult got = packed_attention_forward_cpu(in, options, 0, at::kBFloat16),
                              expected = packed_attention_forward_reference(in, options);
  if (in.query.numel() == 0) return;
  EXPECT_LE((std::get<1>(got) - std::get<1>(expected)).abs().max().item<double>(), 1e-4);
  EXPECT_LE((std::get<0>(got) - std::get<0>(expected)).abs().max().item<double>(),
            std::get<0>(expected).abs().max().item<double>() / 256 + in.value.abs().max().item<double>() / 512);
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

TEST(PackedAttention, NanStaysInItsExample) {
  at::manual_seed(1);
  const at::Tensor clean = at::randn({30, 3, 2, 8}), offsets = offsets_of({10, 10, 10}), dirty = clean.clone();
  dirty[15].fill_(NAN);
  const at::Tensor expected = std::get<0>(packed_self_attention(clean, offsets, {})),
                   got = std::get<0>(packed_self_attention(dirty, offsets, {}));
  EXPECT_TRUE(at::equal(got.narrow(0, 0, 10), expected.narrow(0, 0, 10)));
  EXPECT_TRUE(at::equal(got.narrow(0, 20, 10), expected.narrow(0, 20, 10)));
  EXPECT_TRUE(got.narrow(0, 10, 10).isnan().all().item<bool>());
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
  const PackedAttentionInputs in = make_inputs({"", {40, 9}, {40, 9}, 2, 2, 32, false, false}, at::kBFloat16);
  const at::Tensor exact = std::get<0>(packed_attention_forward_reference(as_double(in), {false, 0.2}));
  const at::Tensor got = std::get<0>(packed_attention(in.query, in.key, in.value, in.query_offsets, in.key_offsets, {false, 0.2}));
  double plain = 0;
  for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 40}, {40, 9}}) {
    const auto part = [first = first, count = count](const at::Tensor& x) { return x.narrow(0, first, count).transpose(0, 1); };
    const at::Tensor weights = (at::matmul(part(in.query), part(in.key).transpose(1, 2)) * 0.2).softmax(-1);
    plain = std::max(plain, (at::matmul(weights, part(in.value)).to(at::kDouble) - part(exact)).abs().max().item<double>());
  }
  EXPECT_LE((got.to(at::kDouble) - exact).abs().max().item<double>(), 2 * plain);
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
  EXPECT_EQ(error_of([&] {
              const at::Tensor out = std::get<0>(packed_self_attention(qkv, four, {}));
              const at::Tensor first = torch::autograd::grad({out.square().sum()}, {qkv}, {}, true, true)[0];
              torch::autograd::grad({first.sum()}, {qkv});
            }),
            "packed_attention: expected one differentiation, got a second one; it has no second derivative, detach its gradient first");
}

}  // namespace
}  // namespace adatape::ops
