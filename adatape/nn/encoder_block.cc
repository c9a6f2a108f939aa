#include "adatape/nn/encoder_block.h"

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/nn/dropout.h"
#include "adatape/ops/cuda_architecture.h"
#include "adatape/ops/half_block/half_block.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/one_query_attention/one_query_attention.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {

EncoderBlock::EncoderBlock(const EncoderBlockShape& shape_) : shape(shape_) {
  ADATAPE_CHECK(shape.heads > 0 && shape.width % shape.heads == 0, "model", "expected heads that divide the width, got width ", shape.width,
                " and heads ", shape.heads);
  const int64_t width = shape.width;
  attention_norm = register_module("attention_norm", std::make_shared<LayerNorm>(width));
  qkv = register_module("qkv", std::make_shared<Linear>(width, 3 * width));
  output = register_module("output", std::make_shared<Linear>(width, width));
  feed_forward_norm = register_module("feed_forward_norm", std::make_shared<LayerNorm>(width));
  if (shape.moe) {
    const int64_t inner = shape.moe->ffn_width.value_or(shape.ffn_width);
    experts = register_module("experts", std::make_shared<MixtureOfExperts>(*shape.moe, width, inner, shape.gelu));
  } else {
    feed_forward = register_module("feed_forward", std::make_shared<Mlp>(width, shape.ffn_width, shape.gelu));
  }
  if (shape.tape_ffn_width > 0) {
    tape_feed_forward = register_module("tape_feed_forward", std::make_shared<GluMlp>(width, shape.tape_ffn_width));
  }
}

void EncoderBlock::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  for (LayerNorm* norm : {attention_norm.get(), feed_forward_norm.get()}) {
    norm->weight.fill_(1);
    norm->bias.zero_();
  }
  // Query, key and value are three [D, D] matrices to Xavier, not one [3 D, D].
  Linear part(shape.width, shape.width);
  for (int64_t i = 0; i < 3; ++i) {
    xavier_uniform(part, generator);
    qkv->weight.narrow(0, i * shape.width, shape.width).copy_(part.weight);
  }
  qkv->bias.zero_();
  xavier_uniform(*output, generator);
  experts ? experts->initialize(generator) : feed_forward->initialize(generator);
  if (tape_feed_forward) tape_feed_forward->initialize(generator);
}

PackedTokens EncoderBlock::forward(const PackedTokens& x, const ForwardContext& context, int64_t index, double stochastic_depth) const {
  const PackLayout& layout = *x.layout;
  const int64_t head_dim = shape.width / shape.heads;
  const std::string part = "block " + std::to_string(index);
  if (!experts && packed_path(x.values, qkv->packed) && !context.training) {
    ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kEncoderBlocks, "on packed weights"));
    return forward_packed(x, context, part);
  }
  if (half_serves(x, context, stochastic_depth)) {
    ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kEncoderBlocks, "in bfloat16"));
    return forward_half(x, context, part);
  }
  if (!ops::plain_calls()) ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kEncoderBlocks, "layer by layer"));
  const torch::Tensor projected = qkv->forward(attention_norm->forward(x.values)).view({-1, 3, shape.heads, head_dim});
  const torch::Tensor attended = packed_self_attention(projected, layout);
  context.count(part + " / attention projections", layout.lengths(), qkv->cost_per_row() + output->cost_per_row());
  count_attention(context, part + " / attention", layout, layout, /*causal=*/false, shape.width, shape.width);
  return {finish(x.values, attended, layout, context, index, stochastic_depth), x.layout};
}

// Norms, activations and residuals are done inside the matrix products; tokens of each kind take their network where they lie.
PackedTokens EncoderBlock::forward_packed(const PackedTokens& x, const ForwardContext& context, const std::string& part) const {
  const PackLayout& layout = *x.layout;
  const int64_t width = shape.width;
  const torch::Tensor before = x.values.contiguous();
  context.count(part + " / attention projections", layout.lengths(), qkv->cost_per_row() + output->cost_per_row());
  count_attention(context, part + " / attention", layout, layout, /*causal=*/false, width, width);
  const torch::Tensor projected =
      ops::packed_linear(before, qkv->packed, attention_norm->rows()).view({-1, 3, shape.heads, width / shape.heads});
  const torch::Tensor attended =
      packed_self_attention(projected, layout, {.relative_bias = {}, .products = qkv->packed.half() ? torch::kBFloat16 : torch::kFloat});
  count_products(projected.size(0), qkv->cost_per_row());
  return {finish_packed(before, attended, layout, context, part), x.layout};
}

torch::Tensor EncoderBlock::finish_packed(const torch::Tensor& x, const torch::Tensor& attended, const PackLayout& layout,
                                          const ForwardContext& context, const std::string& part) const {
  const torch::Tensor middle = ops::packed_linear(attended, output->packed, {}, ops::Activation::kNone, x);
  count_products(attended.size(0), output->cost_per_row());
  count_feed_forward(layout, context, part);
  torch::Tensor after = at::empty_like(middle);
  if (!tape_feed_forward || layout.count(TokenKind::kTape) == 0) {
    feed_forward->add_to_rows(middle, {}, *feed_forward_norm, after);
  } else {
    feed_forward->add_to_rows(middle, layout.rows_but(TokenKind::kTape), *feed_forward_norm, after);
    tape_feed_forward->add_to_rows(middle, layout.rows_of(TokenKind::kTape), *feed_forward_norm, after);
  }
  return after;
}

bool EncoderBlock::half_serves(const PackedTokens& x, const ForwardContext& context, double stochastic_depth) const {
  if (!ops::half_products() || x.layout->total() == 0) return false;
  const int64_t head_dim = shape.width / shape.heads;
  const char* refusal = nullptr;
  if (!ops::has_cuda_kernels_on(x.values.device())) {
    refusal = "their bfloat16 form needs libadatape_cuda.so and a device of compute capability 9.0 or above";
  } else if (!ops::has_half_block(x.values, shape.width) || shape.ffn_width % 8 != 0 || head_dim % 8 != 0 || head_dim > 256) {
    refusal = "their bfloat16 form takes widths of whole eights, of 2,048 features at most, and 256 a head";
  } else if (experts) {
    refusal = "their bfloat16 form has no experts";
  } else if (context.training && (shape.dropout > 0 || stochastic_depth > 0)) {
    refusal = "their bfloat16 form trains without dropout and stochastic depth";
  }
  if (refusal != nullptr) ops::record_fallback(ops::kEncoderBlocks, refusal);
  return refusal == nullptr;
}

// In bfloat16 on CUDA. Norms go together with the residual sums before them and put the rows in order for their networks, so that nothing
// is gathered; without a gradient residuals are added within the products.
PackedTokens EncoderBlock::forward_half(const PackedTokens& x, const ForwardContext& context, const std::string& part) const {
  const PackLayout& layout = *x.layout;
  const int64_t width = shape.width, total = layout.total(), head_dim = width / shape.heads;
  const bool gradient = at::GradMode::is_enabled(), split = tape_feed_forward && layout.count(TokenKind::kTape) > 0;
  count_products(total, qkv->cost_per_row() + output->cost_per_row());
  for (const int64_t length : layout.lengths()) add_matrix_product_flops(4 * length * length * width);
  context.count(part + " / attention projections", layout.lengths(), qkv->cost_per_row() + output->cost_per_row());
  count_attention(context, part + " / attention", layout, layout, /*causal=*/false, width, width);
  count_feed_forward(layout, context, part);
  const int64_t tape = split ? layout.count(TokenKind::kTape) : 0;
  count_products(total - tape, feed_forward->cost_per_row());

  const torch::Tensor given = gradient ? x.values : x.values.to(torch::kBFloat16);
  const auto [before, normed, none] = ops::residual_norm(given, {}, attention_norm->weight, attention_norm->bias, attention_norm->epsilon);
  const torch::Tensor attended = ops::half_self_attention(
      ops::half_linear(normed, qkv->weight, qkv->bias).view({-1, 3, shape.heads, head_dim}), layout.cumulative_lengths(), layout.longest(),
      /*causal=*/false, 1 / std::sqrt(static_cast<double>(head_dim)));
  const torch::Tensor branch =
      ops::half_linear(attended.reshape({total, width}), output->weight, output->bias, gradient ? torch::Tensor() : before);
  const auto [middle, others, on_tape] =
      ops::residual_norm(gradient ? before : branch, gradient ? branch : torch::Tensor(), feed_forward_norm->weight,
                         feed_forward_norm->bias, feed_forward_norm->epsilon, split ? layout.tape_split() : ops::RowSplit());
  const bool within = !gradient && !split;  // the residual is added by the last product
  const torch::Tensor of_others =
      ops::half_mlp(others, feed_forward->expand->weight, feed_forward->expand->bias, feed_forward->contract->weight,
                    feed_forward->contract->bias, shape.gelu == Gelu::kTanh, within ? middle : torch::Tensor());
  if (within) return {of_others, x.layout};
  const torch::Tensor of_tape = split ? tape_feed_forward->forward(on_tape).to(torch::kBFloat16) : torch::Tensor();
  return {ops::residual_add(middle, of_others, of_tape, split ? layout.tape_split() : ops::RowSplit()), x.layout};
}

torch::Tensor EncoderBlock::forward_queries(const torch::Tensor& queries, const std::shared_ptr<const PackLayout>& query_layout,
                                            const torch::Tensor& keys, const PackLayout& key_layout, const ForwardContext& context,
                                            int64_t index, double stochastic_depth, bool one_query) const {
  const int64_t width = shape.width, head_dim = width / shape.heads;
  const std::string part = "block " + std::to_string(index);
  if (!experts && !one_query && packed_path(queries, qkv->packed) && !context.training) {
    const ops::PackedWeight asking = ops::columns_of(qkv->packed, 0, width), answering = ops::columns_of(qkv->packed, width, 2 * width);
    if (asking.defined() && answering.defined()) {
      const torch::Tensor before = queries.contiguous(), query = ops::packed_linear(before, asking, attention_norm->rows());
      const torch::Tensor pair = ops::packed_linear(keys.contiguous(), answering, attention_norm->rows());
      count_products(query.size(0), product_cost(width, width, true));
      count_products(pair.size(0), product_cost(width, 2 * width, true));
      const std::vector<torch::Tensor> halves = pair.view({-1, 2, shape.heads, head_dim}).unbind(1);
      const torch::Tensor attended =
          packed_attention(query.view({-1, shape.heads, head_dim}), halves[0], halves[1], *query_layout, key_layout,
                           {.relative_bias = {}, .products = qkv->packed.half() ? torch::kBFloat16 : torch::kFloat});
      context.count(part + " / attention projections", query_layout->lengths(), product_cost(width, width, true) + output->cost_per_row());
      context.count(part + " / key and value projections", key_layout.lengths(), product_cost(width, 2 * width, true));
      count_attention(context, part + " / attention", *query_layout, key_layout, /*causal=*/false, width, width);
      ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kEncoderBlocks, "on packed weights"));
      return finish_packed(before, attended, *query_layout, context, part);
    }
    ADATAPE_RECORD_ONCE(ops::record_fallback(ops::kEncoderBlocks, "packed weights cannot be cut into queries and keys at this width"));
  }
  if (ops::half_products()) {
    ADATAPE_RECORD_ONCE(ops::record_fallback(ops::kEncoderBlocks, "their bfloat16 form has no path for some of the tokens as queries"));
  }
  if (!ops::plain_calls()) ADATAPE_RECORD_ONCE(ops::record_kernel(ops::kEncoderBlocks, "layer by layer"));
  const torch::Tensor normed_keys = attention_norm->forward(keys);
  // Split and unbound: one gradient for the parts together, where narrow and select would clear and add one for each.
  const std::vector<int64_t> sizes = one_query ? std::vector<int64_t>{width, width, width} : std::vector<int64_t>{width, 2 * width};
  const std::vector<torch::Tensor> weights = qkv->weight.split_with_sizes(sizes), biases = qkv->bias.split_with_sizes(sizes);
  const torch::Tensor query = linear(attention_norm->forward(queries), weights[0], biases[0]);
  context.count(part + " / attention projections", query_layout->lengths(), product_cost(width, width, true) + output->cost_per_row());
  torch::Tensor attended;
  if (one_query && ops::has_one_query_attention(query, normed_keys)) {
    const int64_t pairs = key_layout.total();
    count_products(query.size(0), product_cost(width, 2 * width, true));
    add_matrix_product_flops(4 * pairs * shape.heads * width);
    attended = ops::one_query_attention(query, normed_keys, {weights[1], weights[2], biases[2]}, key_layout.offsets(), shape.heads,
                                        1 / std::sqrt(static_cast<double>(head_dim)));
    context.count(part + " / key and value projections", query_layout->lengths(), product_cost(width, 2 * width, true));
    count_attention(context, part + " / attention", *query_layout, key_layout, /*causal=*/false, shape.heads * width, width);
  } else {
    const torch::Tensor pair = one_query
                                   ? linear(normed_keys, qkv->weight.narrow(0, width, 2 * width), qkv->bias.narrow(0, width, 2 * width))
                                   : linear(normed_keys, weights[1], biases[1]);
    const std::vector<torch::Tensor> halves = pair.view({-1, 2, shape.heads, head_dim}).unbind(1);
    attended = packed_attention(query.view({-1, shape.heads, head_dim}), halves[0], halves[1], *query_layout, key_layout);
    context.count(part + " / key and value projections", key_layout.lengths(), product_cost(width, 2 * width, true));
    count_attention(context, part + " / attention", *query_layout, key_layout, /*causal=*/false, width, width);
  }
  return finish(queries, attended, *query_layout, context, index, stochastic_depth);
}

torch::Tensor EncoderBlock::finish(const torch::Tensor& x, const torch::Tensor& attended, const PackLayout& layout,
                                   const ForwardContext& context, int64_t index, double stochastic_depth) const {
  const uint32_t place = static_cast<uint32_t>(index);
  const torch::Tensor factor = stochastic_depth_factor(layout, stochastic_depth, context, place, x);
  const auto residual = [&](const torch::Tensor& base, const torch::Tensor& branch) {
    return factor.defined() ? base + branch * factor : base + branch;
  };
  const torch::Tensor after_attention = residual(x, dropout(output->forward(attended), layout, shape.dropout, context, 2 * place));
  const torch::Tensor branch = feed_forward_of(feed_forward_norm->forward(after_attention), layout, context, index);
  return residual(after_attention, dropout(branch, layout, shape.dropout, context, 2 * place + 1));
}

void EncoderBlock::count_feed_forward(const PackLayout& layout, const ForwardContext& context, const std::string& part) const {
  if (context.work == nullptr) return;
  const std::vector<int64_t> tape =
      tape_feed_forward ? layout.lengths_of(TokenKind::kTape) : std::vector<int64_t>(static_cast<size_t>(layout.batch()));
  std::vector<int64_t> input = layout.lengths();
  for (size_t b = 0; b < input.size(); ++b) input[b] -= tape[b];
  if (feed_forward) context.count(part + " / feed-forward", input, feed_forward->cost_per_row());  // experts count themselves
  if (tape_feed_forward && layout.count(TokenKind::kTape) > 0)
    context.count(part + " / tape feed-forward", tape, tape_feed_forward->cost_per_row());
}

torch::Tensor EncoderBlock::feed_forward_of(const torch::Tensor& x, const PackLayout& layout, const ForwardContext& context,
                                            int64_t index) const {
  const std::string part = "block " + std::to_string(index);
  count_feed_forward(layout, context, part);
  if (!tape_feed_forward || layout.count(TokenKind::kTape) == 0)
    return experts ? experts->forward(x, layout, context, index, part) : feed_forward->forward(x);
  const auto of_input = [&](const torch::Tensor& tokens) {
    if (!experts) return feed_forward->forward(tokens);
    std::vector<int64_t> lengths = layout.lengths();
    const std::vector<int64_t> tape = layout.lengths_of(TokenKind::kTape);
    for (size_t b = 0; b < lengths.size(); ++b) lengths[b] -= tape[b];
    return experts->forward(tokens, PackLayout(std::move(lengths), {}, layout.device()), context, index, part);
  };
  if (layout.tape_is_last()) {  // a single example: its two kinds are views
    const int64_t tape = layout.count(TokenKind::kTape), input = layout.total() - tape;
    return torch::cat({of_input(x.narrow(0, 0, input)), tape_feed_forward->forward(x.narrow(0, input, tape))});
  }
  const torch::Tensor from_input = of_input(join_segments({x}, layout.segments_but_tape()));
  const torch::Tensor from_tape = tape_feed_forward->forward(join_segments({x}, layout.segments_of_tape()));
  return join_segments({from_input, from_tape}, layout.restore_kinds());
}

}  // namespace adatape
