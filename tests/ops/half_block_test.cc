// The parts of a block in bfloat16 against plain float64 on the CPU: values, gradients, outputs that nobody uses, scopes, errors.
#include "adatape/ops/half_block/half_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <functional>
#include <thread>

#include "tests/error_of.h"
#include "tests/ops/half_block_cases.h"

namespace adatape::ops {
namespace {

using testing::HasSubstr;
using torch::autograd::variable_list;

// A function of inputs (undefined ones are left out) and the gradients that arrive at its outputs (undefined: nobody uses it).
struct Case {
  variable_list inputs;
  std::vector<at::ScalarType> types;  // of the inputs on the GPU
  variable_list grads;
};
using Network = std::function<variable_list(const variable_list&)>;

// Outputs, then the gradients of inputs, on the CPU; zeros for what has none.
variable_list results(const Network& network, const Case& c, bool gpu) {
  // Large ones are made in float32: in float64 they would take seconds.
  const at::ScalarType plain = c.inputs.front().numel() > 1'000'000 ? at::kFloat : at::kDouble;
  variable_list inputs, leaves, used, grads;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    const at::Tensor& given = c.inputs[i];
    inputs.push_back(!given.defined() ? given
                     : gpu            ? given.to(at::kCUDA, c.types[i], false, /*copy=*/true).requires_grad_()
                                      : given.to(plain, false, /*copy=*/true).requires_grad_());
    if (given.defined()) leaves.push_back(inputs.back());
  }
  variable_list out = network(inputs);
  for (size_t i = 0; i < c.grads.size(); ++i) {
    if (!c.grads[i].defined()) continue;
    used.push_back(out.at(i));
    grads.push_back(c.grads[i].to(out[i].device(), out[i].scalar_type()).reshape(out[i].sizes()));
  }
  const variable_list gradients = torch::autograd::grad(used, leaves, grads, /*retain_graph=*/false, /*create_graph=*/false,
                                                        /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i) out.push_back(gradients[i].defined() ? gradients[i] : at::zeros_like(leaves[i]));
  for (at::Tensor& tensor : out) tensor = tensor.detach().to(at::kCPU);
  return out;
}

// What is float32 on the GPU may differ from `plain` by `whole`, what is bfloat16 by `half` (relative norms).
void expect_close(const Network& network, const Network& plain, const Case& c, double whole, double half) {
  const variable_list got = results(network, c, true), expected = results(plain, c, false);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_LE(relative_error(got[i], expected[i]), got[i].scalar_type() == at::kBFloat16 ? half : whole)
        << (i < c.grads.size() ? "output " : "gradient ") << (i < c.grads.size() ? i : i - c.grads.size()) << " " << got[i].scalar_type()
        << " " << got[i].sizes();
  }
}

// Row i of a pack goes to places[i]: rows in any order, a third of them in the first group.
struct Grouping {
  RowSplit split;
  at::Tensor order;  // the row at each place
};

Grouping random_grouping(int64_t rows) {
  const at::Tensor places = at::randperm(rows, at::kLong);
  return {{places.to(at::kCUDA, at::kInt), rows / 3}, places.argsort()};
}

at::Tensor plain_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor centred = x - x.mean(1, true);
  return centred * (centred.square().mean(1, true) + kEpsilon).rsqrt() * weight + bias;
}

// Inputs: x, branch, weight, bias. Outputs: sum and one or two groups of normed rows.
Network plain_residual_norm(const Grouping* grouping) {
  return [=](const variable_list& in) -> variable_list {
    const at::Tensor sum = in[1].defined() ? in[0] + in[1] : in[0] + 0, normed = plain_norm(sum, in[2], in[3]);
    if (grouping == nullptr) return {sum, normed};
    const at::Tensor placed = normed.index_select(0, grouping->order);
    return {sum, placed.slice(0, 0, grouping->split.first), placed.slice(0, grouping->split.first)};
  };
}

Network residual_norm_on_gpu(const Grouping* grouping) {
  return [=](const variable_list& in) -> variable_list {
    const auto [sum, first, second] = residual_norm(in[0], in[1], in[2], in[3], kEpsilon, grouping ? grouping->split : RowSplit());
    EXPECT_EQ(sum.scalar_type(), in[0].scalar_type());
    EXPECT_EQ(second.defined(), grouping != nullptr);
    return grouping ? variable_list{sum, first, second} : variable_list{sum, first};
  };
}

Case norm_case(int64_t rows, int64_t dim, at::ScalarType type, bool branch, const Grouping* grouping) {
  Case c;
  c.types = {type, at::kBFloat16, at::kFloat, at::kFloat};
  c.inputs = {type == at::kFloat ? drawn({rows, dim}) * 3 + 1 : half_valued({rows, dim}), branch ? half_valued({rows, dim}) : at::Tensor(),
              1 + 0.3 * at::randn({dim}), 0.3 * at::randn({dim})};
  c.grads = {half_valued({rows, dim})};
  const int64_t first = grouping ? grouping->split.first : rows;
  c.grads.push_back(half_valued({first, dim}));
  if (grouping) c.grads.push_back(half_valued({rows - first, dim}));
  return c;
}

class ResidualNorm : public HalfBlock, public testing::WithParamInterface<std::tuple<int64_t, int64_t>> {};

TEST_P(ResidualNorm, EqualsThePlainOne) {
  const auto [dim, rows] = GetParam();
  const Grouping grouped = random_grouping(rows);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const bool branch : {false, true}) {
      for (const Grouping* grouping : {static_cast<const Grouping*>(nullptr), &grouped}) {
        SCOPED_TRACE(testing::Message() << type << ", branch " << branch << ", split " << (grouping != nullptr));
        // A sum that is rounded before the gradient is made moves all gradients.
        const bool rounded = branch && type == at::kBFloat16;
        expect_close(residual_norm_on_gpu(grouping), plain_residual_norm(grouping), norm_case(rows, dim, type, branch, grouping),
                     rounded ? 1e-2 : 1e-5, rounded ? 1e-2 : 3e-3);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, ResidualNorm,
                         testing::Combine(testing::ValuesIn(where_cuda_is<int64_t>({8, 64, 768, 1000, 2048})),
                                          testing::ValuesIn(where_cuda_is<int64_t>({0, 1, 37, 5000}))),
                         [](const auto& test) {
                           return "dim_" + std::to_string(std::get<0>(test.param)) + "_rows_" + std::to_string(std::get<1>(test.param));
                         });

TEST_F(HalfBlock, OutputsOfANormThatNobodyUsesHaveNoGradient) {
  const Grouping grouping = random_grouping(41);
  for (const std::vector<bool>& used : std::vector<std::vector<bool>>{
           {true, false, false}, {false, true, false}, {false, false, true}, {true, false, true}, {false, true, true}}) {
    for (const bool branch : {false, true}) {
      SCOPED_TRACE(testing::Message() << "used " << testing::PrintToString(used) << ", branch " << branch);
      Case c = norm_case(41, 64, at::kFloat, branch, &grouping);
      for (size_t i = 0; i < used.size(); ++i) {
        if (!used[i]) c.grads[i] = at::Tensor();
      }
      // Outputs are compared for as many as there are grads.
      expect_close(residual_norm_on_gpu(&grouping), plain_residual_norm(&grouping), c, 1e-5, 3e-3);
    }
  }
}

TEST_F(HalfBlock, ANormWithoutAGradientIsTheSame) {
  const at::NoGradGuard no_grad;
  const Grouping grouping = random_grouping(37);
  for (const bool branch : {false, true}) {
    const Case c = norm_case(37, 768, at::kBFloat16, branch, &grouping);
    variable_list on_gpu;
    for (size_t i = 0; i < c.inputs.size(); ++i)
      on_gpu.push_back(c.inputs[i].defined() ? c.inputs[i].to(at::kCUDA, c.types[i]) : at::Tensor());
    const variable_list got = residual_norm_on_gpu(&grouping)(on_gpu), expected = plain_residual_norm(&grouping)(c.inputs);
    for (size_t i = 0; i < 3; ++i) EXPECT_LE(relative_error(got[i], expected[i]), 3e-3) << i << ", branch " << branch;
  }
}

TEST_F(HalfBlock, ResidualAddPutsRowsBack) {
  for (const int64_t rows : {0, 1, 37, 5000}) {
    for (const int64_t dim : {8, 768, 1000}) {
      const Grouping grouping = random_grouping(rows);
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        for (const bool split : {false, true}) {
          SCOPED_TRACE(testing::Message() << rows << " x " << dim << " " << type << ", split " << split);
          const int64_t first = split ? grouping.split.first : rows;
          Case c;
          c.types = {type, at::kBFloat16, at::kBFloat16};
          c.inputs = {half_valued({rows, dim}), half_valued({first, dim}), split ? half_valued({rows - first, dim}) : at::Tensor()};
          c.grads = {half_valued({rows, dim})};
          const at::Tensor places = grouping.split.places.to(at::kCPU, at::kLong);
          expect_close(
              [&](const variable_list& in) {
                return variable_list{residual_add(in[0], in[1], in[2], split ? grouping.split : RowSplit())};
              },
              [&](const variable_list& in) {
                return variable_list{in[0] + (split ? at::cat({in[1], in[2]}).index_select(0, places) : in[1])};
              },
              c, 1e-6, 3e-3);
        }
      }
    }
  }
}

at::Tensor plain_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) { return x.mm(weight.t()) + bias; }

Case linear_case(int64_t rows, int64_t in, int64_t out) {
  return {{half_valued({rows, in}), half_valued({out, in}, 1 / std::sqrt(static_cast<double>(in))), half_valued({out})},
          {at::kBFloat16, at::kFloat, at::kFloat},
          {half_valued({rows, out})}};
}

TEST_F(HalfBlock, LinearLayersEqualThePlainOnes) {
  for (const auto& [rows, in, out] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{
           {0, 64, 128}, {1, 8, 8}, {37, 64, 128}, {64, 128, 24}, {300, 768, 3072}, {333, 3072, 768}}) {
    SCOPED_TRACE(testing::Message() << rows << " x " << in << " x " << out);
    expect_close([](const variable_list& x) { return variable_list{half_linear(x[0], x[1], x[2])}; },
                 [](const variable_list& x) { return variable_list{plain_linear(x[0], x[1], x[2])}; }, linear_case(rows, in, out), 1e-3,
                 4e-3);
  }
}

TEST_F(HalfBlock, WeightsHaveGradientsWhereTheInputHasNone) {
  const Case c = linear_case(37, 64, 128);
  const at::Tensor x = c.inputs[0];
  expect_close([&](const variable_list& w) { return variable_list{half_linear(x.to(at::kCUDA, at::kBFloat16), w[0], w[1])}; },
               [&](const variable_list& w) { return variable_list{plain_linear(x.to(at::kDouble), w[0], w[1])}; },
               {{c.inputs[1], c.inputs[2]}, {at::kFloat, at::kFloat}, c.grads}, 1e-3, 4e-3);
}

at::Tensor plain_mlp(const variable_list& x, bool tanh) {
  return plain_linear(at::gelu(plain_linear(x[0], x[1], x[2]), tanh ? "tanh" : "none"), x[3], x[4]);
}

Case mlp_case(int64_t rows, int64_t dim, int64_t inner) {
  return {{half_valued({rows, dim}), half_valued({inner, dim}, 1 / std::sqrt(static_cast<double>(dim))), half_valued({inner}),
           half_valued({dim, inner}, 1 / std::sqrt(static_cast<double>(inner))), half_valued({dim})},
          {at::kBFloat16, at::kFloat, at::kFloat, at::kFloat, at::kFloat},
          {half_valued({rows, dim})}};
}

TEST_F(HalfBlock, FeedForwardNetworksEqualThePlainOnes) {
  for (const auto& [rows, dim, inner] :
       std::vector<std::tuple<int64_t, int64_t, int64_t>>{{0, 64, 128}, {1, 8, 16}, {37, 64, 128}, {300, 768, 3072}}) {
    for (const bool tanh : {false, true}) {
      SCOPED_TRACE(testing::Message() << rows << " x " << dim << " x " << inner << ", tanh " << tanh);
      expect_close([&](const variable_list& x) { return variable_list{half_mlp(x[0], x[1], x[2], x[3], x[4], tanh)}; },
                   [&](const variable_list& x) { return variable_list{plain_mlp(x, tanh)}; }, mlp_case(rows, dim, inner), 1e-2, 1e-2);
    }
  }
}

// The two forms are nearer to each other than bfloat16 is to either: over many numbers rounding cancels and their difference does not.
TEST_F(HalfBlock, TheFormOfGeluIsTheOneAskedFor) {
  const at::NoGradGuard no_grad;
  const Case c = mlp_case(300, 256, 1024);
  variable_list in, whole;
  for (size_t i = 0; i < c.inputs.size(); ++i) {
    in.push_back(c.inputs[i].to(at::kCUDA, c.types[i]));
    whole.push_back(c.inputs[i].to(at::kDouble));
  }
  const at::Tensor exact = plain_mlp(whole, false), apart = plain_mlp(whole, true) - exact;
  for (const bool tanh : {false, true}) {
    const at::Tensor got = half_mlp(in[0], in[1], in[2], in[3], in[4], tanh).to(at::kCPU).to(at::kDouble) - exact;
    EXPECT_NEAR(((got * apart).sum() / apart.square().sum()).item<double>(), tanh ? 1 : 0, 0.4);
  }
}

TEST_F(HalfBlock, ResidualsAreAddedWithinTheProductsWithoutAGradient) {
  for (const auto& [rows, dim, inner] : std::vector<std::tuple<int64_t, int64_t, int64_t>>{{37, 64, 128}, {300, 768, 3072}}) {
    const Case linear = linear_case(rows, dim, dim), mlp = mlp_case(rows, dim, inner);
    const at::Tensor residual = 4 * half_valued({rows, dim}), on_gpu = residual.to(at::kCUDA, at::kBFloat16), before = on_gpu.clone();
    variable_list a, b;
    for (size_t i = 0; i < linear.inputs.size(); ++i) a.push_back(linear.inputs[i].to(at::kCUDA, linear.types[i]).requires_grad_());
    for (size_t i = 0; i < mlp.inputs.size(); ++i) b.push_back(mlp.inputs[i].to(at::kCUDA, mlp.types[i]).requires_grad_());
    {
      const at::NoGradGuard no_grad;
      EXPECT_LE(relative_error(half_linear(a[0], a[1], a[2], on_gpu),
                               plain_linear(linear.inputs[0], linear.inputs[1], linear.inputs[2]) + residual),
                4e-3);
      for (const bool tanh : {false, true}) {
        EXPECT_LE(relative_error(half_mlp(b[0], b[1], b[2], b[3], b[4], tanh, on_gpu), plain_mlp(mlp.inputs, tanh) + residual), 1e-2);
      }
      EXPECT_TRUE(on_gpu.equal(before));
    }
    const auto refused = HasSubstr("half block: expected no residual where a gradient is asked for");
    EXPECT_THAT(error_of([&] { half_linear(a[0], a[1], a[2], on_gpu); }), refused);
    EXPECT_THAT(error_of([&] { half_mlp(b[0], b[1], b[2], b[3], b[4], true, on_gpu); }), refused);
  }
}

// qkv [total, 3, heads, d], each example by itself.
at::Tensor plain_attention(const at::Tensor& qkv, const std::vector<int64_t>& lengths, bool causal, double scale) {
  variable_list parts;
  int64_t first = 0;
  for (const int64_t length : lengths) {
    const at::Tensor own = qkv.slice(0, first, first + length).permute({1, 2, 0, 3});  // [3, heads, length, d]
    at::Tensor scores = own[0].matmul(own[1].transpose(1, 2)) * scale;
    if (causal) scores = scores.masked_fill(at::ones({length, length}, at::kBool).triu(1), -INFINITY);
    parts.push_back(scores.softmax(-1).matmul(own[2]).transpose(0, 1));
    first += length;
  }
  return at::cat(parts);
}

void expect_attention(const std::vector<int64_t>& lengths, int64_t heads, int64_t head_dim, bool causal) {
  SCOPED_TRACE(testing::Message() << heads << " heads of " << head_dim << ", causal " << causal);
  std::vector<int64_t> ends = {0};
  for (const int64_t length : lengths) ends.push_back(ends.back() + length);
  const at::Tensor cumulative = torch::tensor(ends, at::kInt).to(at::kCUDA);
  const int64_t total = ends.back(), longest = *std::max_element(lengths.begin(), lengths.end());
  const double scale = 0.8 / std::sqrt(static_cast<double>(head_dim));
  const Case c{{half_valued({total, 3, heads, head_dim})}, {at::kBFloat16}, {half_valued({total, heads, head_dim})}};
  const Network network = [&](const variable_list& in) {
    return variable_list{half_self_attention(in[0], cumulative, longest, causal, scale)};
  };
  expect_close(
      network, [&](const variable_list& in) { return variable_list{plain_attention(in[0], lengths, causal, scale)}; }, c, 1e-2, 1e-2);
  const at::NoGradGuard no_grad;
  EXPECT_LE(relative_error(network({c.inputs[0].to(at::kCUDA, at::kBFloat16)})[0], plain_attention(c.inputs[0], lengths, causal, scale)),
            1e-2);
}

TEST_F(HalfBlock, SelfAttentionOfRaggedExamplesEqualsTheDenseOne) {
  for (const auto& [heads, head_dim] : std::vector<std::pair<int64_t, int64_t>>{{4, 16}, {3, 64}, {2, 24}, {2, 128}, {1, 256}}) {
    for (const bool causal : {false, true}) expect_attention({5, 1, 64, 129, 300, 17}, heads, head_dim, causal);
  }
}

TEST_F(HalfBlock, ExamplesWithoutTokensTakeNoPartInAttention) { expect_attention({0, 5, 0, 70, 0}, 4, 16, false); }

TEST_F(HalfBlock, ASecondDifferentiationIsRefused) {
  const auto of = [](at::IntArrayRef sizes, at::ScalarType type) { return at::randn(sizes).to(at::kCUDA, type).requires_grad_(); };
  const at::Tensor x = of({6, 16}, at::kFloat), half = of({6, 16}, at::kBFloat16), square = of({16, 16}, at::kFloat),
                   row = of({16}, at::kFloat), qkv = of({6, 3, 2, 8}, at::kBFloat16);
  const at::Tensor cumulative = torch::tensor({0, 6}, at::kInt).to(at::kCUDA);
  const std::vector<std::pair<const char*, std::function<at::Tensor()>>> parts = {
      {"norm", [&] { return std::get<1>(residual_norm(x, half, row, row, kEpsilon)); }},
      {"add", [&] { return residual_add(x, half, {}, {}); }},
      {"linear", [&] { return half_linear(half, square, row); }},
      {"mlp", [&] { return half_mlp(half, square, row, square, row, true); }},
      {"attention", [&] { return half_self_attention(qkv, cumulative, 6, false, 0.3); }}};
  for (const auto& [name, part] : parts) {
    const auto differentiate = [&, &call = part](bool twice) {
      torch::autograd::grad({call().to(at::kFloat).square().sum()}, {x, half, square, row, qkv}, {}, /*retain_graph=*/false,
                            /*create_graph=*/twice, /*allow_unused=*/true);
    };
    EXPECT_EQ(error_of([&] { differentiate(false); }), "no error") << name;
    EXPECT_EQ(error_of([&] { differentiate(true); }),
              "half block: expected one differentiation, got a second one; train in float32 for that")
        << name;
  }
}

TEST_F(HalfBlock, ServesRowsOfEightsUpTo2048) {
  const at::Tensor x = at::zeros({1}).to(at::kCUDA);
  for (const int64_t dim : {8, 768, 1000, 2048}) EXPECT_TRUE(has_half_block(x, dim)) << dim;
  for (const int64_t dim : {4, 12, 2056}) EXPECT_FALSE(has_half_block(x, dim)) << dim;
}

// Copies need no GPU.
TEST(HalfScopeTest, OneCopyOfAWeightInAScope) {
  const at::Tensor weight = at::full({2, 3}, 1.5), other = at::full({2, 3}, 2.5);
  EXPECT_FALSE(half_products());
  EXPECT_FALSE(half_copy(weight).is_same(half_copy(weight)));
  {
    const HalfScope scope;
    EXPECT_TRUE(half_products());
    const at::Tensor copy = half_copy(weight);
    EXPECT_EQ(copy.scalar_type(), at::kBFloat16);
    EXPECT_FALSE(copy.requires_grad());
    EXPECT_TRUE(copy.to(at::kFloat).equal(weight));
    EXPECT_TRUE(half_copy(weight).is_same(copy));
    EXPECT_TRUE(half_copy(other).to(at::kFloat).equal(other));
    {
      const HalfScope inner;
      EXPECT_TRUE(half_copy(weight).is_same(copy));
    }
    EXPECT_TRUE(half_products());  // the outer one goes on
    EXPECT_TRUE(half_copy(weight).is_same(copy));
  }
  EXPECT_FALSE(half_products());
}

TEST(HalfScopeTest, AWeightThatChangesIsSeenInTheNextScope) {
  const at::Tensor weight = at::full({4}, 1.0).requires_grad_();
  const auto copied = [&] { return half_copy(weight).to(at::kFloat)[0].item<float>(); };
  {
    const HalfScope scope;
    EXPECT_EQ(copied(), 1);
  }
  {
    const at::NoGradGuard no_grad;
    weight.fill_(3);
  }
  EXPECT_EQ(copied(), 3);
  const HalfScope scope;
  EXPECT_EQ(copied(), 3);
}

TEST(HalfScopeTest, TensorsThatCameAndWentAreNotConfused) {
  const HalfScope scope;
  for (int i = 0; i < 20; ++i) EXPECT_EQ(half_copy(at::full({4}, i)).to(at::kFloat)[0].item<float>(), i);  // one address, if it was freed
}

TEST(HalfScopeTest, AScopeIsOfItsThread) {
  const HalfScope scope;
  bool elsewhere = true;
  std::thread([&] { elsewhere = half_products(); }).join();
  EXPECT_FALSE(elsewhere);
}

TEST(HalfScopeTest, NothingIsServedOnTheCpu) { EXPECT_FALSE(has_half_block(at::zeros({1}), 64)); }

}  // namespace
}  // namespace adatape::ops
