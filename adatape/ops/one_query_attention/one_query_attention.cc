#include "adatape/ops/one_query_attention/one_query_attention.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/ops/dense_linear/matrix_product.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/packed_attention/packed_attention_few_queries.h"
#include "adatape/ops/plain_calls.h"

namespace adatape::ops {
namespace cpu {
namespace {

// One example with `count` tokens of `width` numbers. folded, mixed and their gradients have a row of width numbers for each head, `head`
// apart; weights and grad_scores [heads] rows of what the softmax gives each token, tokens_head apart.
struct ForwardExample {
  int64_t heads, count, width, head, tokens_head;
  const float *x, *folded;
  float scale;
  float *weights, *mixed;
};

struct BackwardExample {
  int64_t heads, count, width, head, tokens_head;
  const float *x, *folded, *weights, *grad_mixed;
  float scale;
  float *grad_scores, *grad_folded, *grad_x;
};

template <class S>
ADATAPE_ALWAYS_INLINE void forward_heads(const ForwardExample& e, float* scores) {
  const int64_t padded = (e.count + S::kLanes - 1) / S::kLanes * S::kLanes;
  for (int64_t h = 0; h < e.heads; ++h) {
    products_with<S>(e.folded + h * e.head, {e.x, e.width}, e.count, e.width, scores);
    float sum;
    exponentials<S>(scores, e.count, padded, e.scale, sum,
                    [scores](int64_t j, const typename S::Floats& v) ADATAPE_INLINE_LAMBDA { S::store(scores + j, v); });
    const float factor = 1 / sum;
    float* const weights = e.weights + h * e.tokens_head;
    for (int64_t j = 0; j < e.count; ++j) weights[j] = scores[j] * factor;
    weighted_sum<S>(weights, {e.x, e.width}, e.count, e.width, 1, e.mixed + h * e.head);
  }
}

// grad_x_i = the sum over heads of grad_score_i folded + weight_i grad_mixed: every token is written once.
template <class S>
ADATAPE_ALWAYS_INLINE void backward_heads(const BackwardExample& e, float* products) {
  for (int64_t h = 0; h < e.heads; ++h) {
    const float* const weights = e.weights + h * e.tokens_head;
    float* const grad_scores = e.grad_scores + h * e.tokens_head;
    products_with<S>(e.grad_mixed + h * e.head, {e.x, e.width}, e.count, e.width, products);
    float mean = 0;
    for (int64_t j = 0; j < e.count; ++j) mean += weights[j] * products[j];
    for (int64_t j = 0; j < e.count; ++j) grad_scores[j] = weights[j] * (products[j] - mean) * e.scale;
    weighted_sum<S>(grad_scores, {e.x, e.width}, e.count, e.width, 1, e.grad_folded + h * e.head);
  }
  if (e.grad_x == nullptr) return;
  for (int64_t c = 0; c < e.width; c += S::kLanes) {
    for (int64_t j = 0; j < e.count; ++j) {
      typename S::Floats sum{}, other{}, v;
      for (int64_t h = 0; h < e.heads; ++h) {
        load_part<S>(v, e.folded + h * e.head + c, e.width - c);
        sum += v * e.grad_scores[h * e.tokens_head + j];
        load_part<S>(v, e.grad_mixed + h * e.head + c, e.width - c);
        other += v * e.weights[h * e.tokens_head + j];
      }
      store_part<S>(e.grad_x + j * e.width + c, sum + other, e.width - c);
    }
  }
}

ADATAPE_CPU_CLONES void forward_narrow(const ForwardExample& e, float* scores) { forward_heads<Simd<8>>(e, scores); }
ADATAPE_CPU_AVX512 void forward_wide(const ForwardExample& e, float* scores) { forward_heads<Simd<16>>(e, scores); }
ADATAPE_CPU_CLONES void backward_narrow(const BackwardExample& e, float* products) { backward_heads<Simd<8>>(e, products); }
ADATAPE_CPU_AVX512 void backward_wide(const BackwardExample& e, float* products) { backward_heads<Simd<16>>(e, products); }

}  // namespace
}  // namespace cpu

namespace {

using cpu::Matrix;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kComponent[] = "one_query_attention";

Matrix rows_of(const at::Tensor& x) { return {x.const_data_ptr<float>(), x.stride(0), x.stride(1)}; }
Matrix transposed(const Matrix& m) { return {m.data, m.column, m.row}; }

struct Sizes {
  Sizes(const at::Tensor& query, const at::Tensor& x, const std::vector<int64_t>& offsets_, int64_t heads_, double scale_, int vector_bytes)
      : offsets(offsets_),
        batch(query.size(0)),
        tokens(x.size(0)),
        width(x.size(1)),
        heads(heads_),
        head_dim(query.size(1) / heads_),
        scale(static_cast<float>(scale_)),
        wide(cpu::has_avx512() && vector_bytes != 32 && width > 8) {}

  Matrix query_of(const Matrix& query, int64_t head) const {
    return {query.data + head * head_dim * query.column, query.row, query.column};
  }
  Matrix weight_of(const Matrix& weight, int64_t head) const {
    return {weight.data + head * head_dim * weight.row, weight.row, weight.column};
  }
  // run(example, first token, tokens, scratch) for all examples, shared out among threads.
  template <class Run>
  void for_examples(Run run) const {
    const int64_t of_example = 4 * width * heads * (1 + tokens / std::max<int64_t>(1, batch));
    at::parallel_for(0, batch, cpu::grain(of_example), [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = offsets[static_cast<size_t>(b)], count = offsets[static_cast<size_t>(b) + 1] - first;
        scratch.resize(static_cast<size_t>(count + 16));
        run(b, first, count, scratch.data());
      }
    });
  }

  const std::vector<int64_t>& offsets;
  int64_t batch, tokens, width, heads, head_dim;
  float scale;
  bool wide;
};

// from [heads, B, d] -> [B, heads x d], with the bias where there is one.
at::Tensor joined_heads(const Sizes& s, const at::Tensor& from, const float* bias) {
  at::Tensor to = at::empty({s.batch, s.heads * s.head_dim}, from.options());
  const float* const read = from.const_data_ptr<float>();
  float* written = to.mutable_data_ptr<float>();
  for (int64_t b = 0; b < s.batch; ++b) {
    for (int64_t h = 0; h < s.heads; ++h, written += s.head_dim) {
      const float* const row = read + (h * s.batch + b) * s.head_dim;
      if (bias == nullptr) {
        cpu::copy_floats(row, s.head_dim, written);
      } else {
        for (int64_t j = 0; j < s.head_dim; ++j) written[j] = row[j] + bias[h * s.head_dim + j];
      }
    }
  }
  return to;
}

// folded, mixed [heads, B, D] and the softmax's weights [heads, T] are kept for the gradient.
at::Tensor forward_pass(const Sizes& s, const at::Tensor& query, const at::Tensor& x, const KeyValueWeights& weights,
                        const at::Tensor& folded, const at::Tensor& mixed, const at::Tensor& softmax) {
  const Matrix q = rows_of(query), key = rows_of(weights.key), value = rows_of(weights.value);
  const int64_t head = s.batch * s.width;
  float *const to_folded = folded.mutable_data_ptr<float>(), *const to_mixed = mixed.mutable_data_ptr<float>(),
               *const to_softmax = softmax.mutable_data_ptr<float>();
  std::vector<cpu::Product> products;
  for (int64_t h = 0; h < s.heads; ++h)
    products.push_back({s.batch, s.head_dim, s.width, s.query_of(q, h), s.weight_of(key, h), nullptr, to_folded + h * head});
  cpu::matrix_products(products);
  const float* const rows = x.const_data_ptr<float>();
  s.for_examples([&](int64_t b, int64_t first, int64_t count, float* scratch) {
    const cpu::ForwardExample example{s.heads,
                                      count,
                                      s.width,
                                      head,
                                      s.tokens,
                                      rows + first * s.width,
                                      to_folded + b * s.width,
                                      s.scale,
                                      to_softmax + first,
                                      to_mixed + b * s.width};
    (s.wide ? cpu::forward_wide : cpu::forward_narrow)(example, scratch);
  });
  const at::Tensor parts = at::empty({s.heads, s.batch, s.head_dim}, x.options());
  products.clear();
  for (int64_t h = 0; h < s.heads; ++h)
    products.push_back({s.batch,
                        s.width,
                        s.head_dim,
                        {to_mixed + h * head, s.width, 1},
                        transposed(s.weight_of(value, h)),
                        nullptr,
                        parts.mutable_data_ptr<float>() + h * s.batch * s.head_dim});
  cpu::matrix_products(products);
  return joined_heads(s, parts, weights.value_bias.contiguous().const_data_ptr<float>());
}

// By plain calls, example by example, keys and values made: what gradients of gradients are taken of.
at::Tensor plain(const at::Tensor& query, const at::Tensor& x, const KeyValueWeights& weights, const std::vector<int64_t>& offsets,
                 int64_t heads, double scale) {
  const int64_t head_dim = query.size(1) / heads;
  const auto by_head = [&](const at::Tensor& rows) { return rows.view({rows.size(0), heads, head_dim}).transpose(0, 1); };
  variable_list answers = {query.slice(0, 0, 0)};
  for (int64_t b = 0; b < query.size(0); ++b) {
    const at::Tensor tokens = x.slice(0, offsets[static_cast<size_t>(b)], offsets[static_cast<size_t>(b) + 1]);
    const at::Tensor keys = by_head(at::linear(tokens, weights.key)),
                     values = by_head(at::linear(tokens, weights.value, weights.value_bias));
    const at::Tensor scores = by_head(query.slice(0, b, b + 1)).matmul(keys.transpose(1, 2)) * scale;  // [heads, 1, count]
    answers.push_back(scores.softmax(2).matmul(values).transpose(0, 1).reshape({1, -1}));
  }
  return at::cat(answers);
}

class OneQueryAttentionFunction : public torch::autograd::Function<OneQueryAttentionFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& query, const at::Tensor& x, const at::Tensor& key,
                            const at::Tensor& value, const at::Tensor& value_bias, const std::vector<int64_t>& offsets, int64_t heads,
                            double scale, int64_t vector_bytes) {
    at::AutoDispatchBelowAutograd guard;
    const Sizes s(query, x, offsets, heads, scale, static_cast<int>(vector_bytes));
    const at::Tensor folded = at::empty({heads, s.batch, s.width}, x.options()), mixed = at::empty_like(folded),
                     softmax = at::empty({heads, s.tokens}, x.options());
    context->save_for_backward({query, x, key, value, value_bias, folded, mixed, softmax});
    context->saved_data["offsets"] = offsets;
    context->saved_data["heads"] = heads;
    context->saved_data["scale"] = scale;
    context->saved_data["vector_bytes"] = vector_bytes;
    return forward_pass(s, query, x, {key, value, value_bias}, folded, mixed, softmax);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const std::vector<int64_t> offsets = context->saved_data["offsets"].toIntVector();
    const int64_t heads = context->saved_data["heads"].toInt();
    const double scale = context->saved_data["scale"].toDouble();
    variable_list result(9);  // one for each argument of forward
    if (at::GradMode::is_enabled()) {
      // By views of their own: what was saved may depend on each other, and that way is not this call's.
      variable_list views(5), inputs;
      for (size_t i = 0; i < 5; ++i) {
        views[i] = context->needs_input_grad(i) ? saved[i].view_as(saved[i]) : saved[i];
        if (context->needs_input_grad(i)) inputs.push_back(views[i]);
      }
      const at::Tensor out = plain(views[0], views[1], {views[2], views[3], views[4]}, offsets, heads, scale);
      const variable_list found =
          torch::autograd::grad({out}, inputs, {grads[0]}, std::nullopt, /*create_graph=*/true, /*allow_unused=*/true);
      for (size_t i = 0, next = 0; i < 5; ++i) {
        if (context->needs_input_grad(i)) result[i] = found[next++];
      }
      return result;
    }
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor &query = saved[0], &x = saved[1], &key = saved[2], &value = saved[3], &folded = saved[5], &mixed = saved[6],
                     &softmax = saved[7], grad = grads[0].contiguous();
    const Sizes s(query, x, offsets, heads, scale, static_cast<int>(context->saved_data["vector_bytes"].toInt()));
    const int64_t head = s.batch * s.width, of_head = s.head_dim * s.width;
    const at::Tensor grad_mixed = at::empty_like(folded), grad_folded = at::empty_like(folded), grad_scores = at::empty_like(softmax);
    const auto rows_of_head = [&](const at::Tensor& rows, int64_t h) {
      return Matrix{rows.const_data_ptr<float>() + h * head, s.width, 1};
    };

    std::vector<cpu::Product> products;
    for (int64_t h = 0; h < heads; ++h)
      products.push_back({s.batch, s.head_dim, s.width, s.query_of(rows_of(grad), h), s.weight_of(rows_of(value), h), nullptr,
                          grad_mixed.mutable_data_ptr<float>() + h * head});
    if (context->needs_input_grad(3)) {
      result[3] = at::empty(value.sizes(), x.options());
      for (int64_t h = 0; h < heads; ++h)
        products.push_back({s.head_dim, s.batch, s.width, transposed(s.query_of(rows_of(grad), h)), rows_of_head(mixed, h), nullptr,
                            result[3].mutable_data_ptr<float>() + h * of_head});
    }
    cpu::matrix_products(products);
    if (context->needs_input_grad(4)) {
      result[4] = at::empty({heads * s.head_dim}, x.options());
      cpu::column_sums(s.batch, heads * s.head_dim, grad.const_data_ptr<float>(), result[4].mutable_data_ptr<float>());
    }

    if (context->needs_input_grad(1)) result[1] = at::empty_like(x);
    s.for_examples([&](int64_t b, int64_t first, int64_t count, float* scratch) {
      const cpu::BackwardExample example{heads,
                                         count,
                                         s.width,
                                         head,
                                         s.tokens,
                                         x.const_data_ptr<float>() + first * s.width,
                                         folded.const_data_ptr<float>() + b * s.width,
                                         softmax.const_data_ptr<float>() + first,
                                         grad_mixed.const_data_ptr<float>() + b * s.width,
                                         s.scale,
                                         grad_scores.mutable_data_ptr<float>() + first,
                                         grad_folded.mutable_data_ptr<float>() + b * s.width,
                                         result[1].defined() ? result[1].mutable_data_ptr<float>() + first * s.width : nullptr};
      (s.wide ? cpu::backward_wide : cpu::backward_narrow)(example, scratch);
    });

    products.clear();
    const at::Tensor grad_query = at::empty({heads, s.batch, s.head_dim}, x.options());
    if (context->needs_input_grad(0)) {
      for (int64_t h = 0; h < heads; ++h)
        products.push_back({s.batch, s.width, s.head_dim, rows_of_head(grad_folded, h), transposed(s.weight_of(rows_of(key), h)), nullptr,
                            grad_query.mutable_data_ptr<float>() + h * s.batch * s.head_dim});
    }
    if (context->needs_input_grad(2)) {
      result[2] = at::empty(key.sizes(), x.options());
      for (int64_t h = 0; h < heads; ++h)
        products.push_back({s.head_dim, s.batch, s.width, transposed(s.query_of(rows_of(query), h)), rows_of_head(grad_folded, h), nullptr,
                            result[2].mutable_data_ptr<float>() + h * of_head});
    }
    cpu::matrix_products(products);
    if (context->needs_input_grad(0)) result[0] = joined_heads(s, grad_query, nullptr);
    return result;
  }
};

}  // namespace

bool has_one_query_attention(const at::Tensor& query, const at::Tensor& x) {
  return !plain_calls() && query.is_cpu() && query.scalar_type() == at::kFloat && x.is_cpu() && x.scalar_type() == at::kFloat;
}

at::Tensor one_query_attention(const at::Tensor& query, const at::Tensor& given, const KeyValueWeights& weights,
                               const std::vector<int64_t>& offsets, int64_t heads, double scale, int vector_bytes) {
  const at::Tensor x = given.contiguous();
  for (const auto& [name, tensor] : {std::pair<const char*, const at::Tensor&>{"query", query},
                                     {"x", x},
                                     {"key", weights.key},
                                     {"value", weights.value},
                                     {"value_bias", weights.value_bias}}) {
    ADATAPE_CHECK(tensor.defined() && tensor.is_cpu() && tensor.scalar_type() == at::kFloat, kComponent, "expected ", name,
                  " of float32 on the CPU, got ", tensor.toString());
  }
  ADATAPE_CHECK(query.dim() == 2 && x.dim() == 2 && heads > 0 && query.size(1) % heads == 0, kComponent,
                "expected a query [B, heads x d] for ", heads, " heads and x [T, D], got ", query.sizes(), " and ", x.sizes());
  const std::vector<int64_t> sizes{query.size(1), x.size(1)};
  ADATAPE_CHECK(weights.key.sizes() == sizes && weights.value.sizes() == sizes && weights.value_bias.sizes() == at::IntArrayRef(sizes[0]),
                kComponent, "expected key and value weights ", at::IntArrayRef(sizes), " and a bias to match, got ", weights.key.sizes(),
                ", ", weights.value.sizes(), " and ", weights.value_bias.sizes());
  ADATAPE_CHECK(static_cast<int64_t>(offsets.size()) == query.size(0) + 1 && offsets.front() == 0 && offsets.back() == x.size(0) &&
                    std::adjacent_find(offsets.begin(), offsets.end(), std::greater_equal<int64_t>()) == offsets.end(),
                kComponent, "expected ", query.size(0) + 1, " offsets from 0 to ", x.size(0), ", each above the one before, got ", offsets);
  if (cpu::has_avx512() && vector_bytes != 32 && x.size(1) > 8) {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kAttention, "one query", 16));
  } else {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kAttention, "one query", 8));
  }
  bool graph = query.requires_grad() || x.requires_grad();
  for (const at::Tensor& weight : {weights.key, weights.value, weights.value_bias}) graph = graph || weight.requires_grad();
  if (graph && at::GradMode::is_enabled())
    return OneQueryAttentionFunction::apply(query, x, weights.key, weights.value, weights.value_bias, offsets, heads, scale,
                                            static_cast<int64_t>(vector_bytes));
  const Sizes s(query, x, offsets, heads, scale, vector_bytes);
  const at::Tensor folded = at::empty({heads, s.batch, s.width}, x.options());
  return forward_pass(s, query, x, weights, folded, at::empty_like(folded), at::empty({heads, s.tokens}, x.options()));
}

}  // namespace adatape::ops
