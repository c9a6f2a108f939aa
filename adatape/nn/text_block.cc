#include "adatape/nn/text_block.h"

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/nn/dropout.h"
#include "adatape/nn/rotary.h"

namespace adatape {

TextBlock::TextBlock(const TextBlockShape& shape_) : shape(shape_) {
  ADATAPE_CHECK(shape.key_value_heads > 0 && shape.heads % shape.key_value_heads == 0, "model",
                "expected key_value_heads that divide the heads, got ", shape.key_value_heads, " and ", shape.heads);
  ADATAPE_CHECK(!(shape.parallel && shape.cross_attention), "model", "expected no cross-attention in a parallel block");
  const int64_t inner = shape.heads * shape.head_width, few = shape.key_value_heads * shape.head_width;
  const auto norm = [&](const char* name) {
    return register_module(name, std::make_shared<Norm>(shape.norm, shape.width, shape.epsilon, shape.norm_bias));
  };
  const auto matrix = [&](const char* name, int64_t in, int64_t out) {
    return register_module(name, std::make_shared<Linear>(in, out, shape.biases));
  };
  attention_norm = norm("attention_norm");
  qkv = matrix("qkv", shape.width, inner + 2 * few);
  output = matrix("output", inner, shape.width);
  if (shape.cross_attention) {
    cross_norm = norm("cross_norm");
    cross_query = matrix("cross_query", shape.width, inner);
    cross_key_value = matrix("cross_key_value", shape.width, 2 * few);
    cross_output = matrix("cross_output", inner, shape.width);
  }
  if (!shape.parallel) feed_forward_norm = norm("feed_forward_norm");
  feed_forward =
      register_module("feed_forward", std::make_shared<ActivatedMlp>(shape.width, shape.ffn_width, shape.activation, shape.biases));
}

void TextBlock::initialize(at::Generator& generator, double deviation, double residual_deviation) {
  torch::NoGradGuard no_grad;
  for (const auto& norm : {attention_norm, cross_norm, feed_forward_norm}) {
    if (!norm) continue;
    norm->weight.fill_(1);
    if (norm->bias.defined()) norm->bias.zero_();
  }
  const int64_t inner = shape.heads * shape.head_width;
  const double query_scale = shape.scaled ? 1.0 : 1.0 / std::sqrt(static_cast<double>(shape.head_width));
  normal_linear(*qkv, deviation, generator);
  qkv->weight.narrow(0, 0, inner).mul_(query_scale);
  normal_linear(*output, residual_deviation, generator);
  if (shape.cross_attention) {
    normal_linear(*cross_query, deviation, generator);
    cross_query->weight.mul_(query_scale);
    normal_linear(*cross_key_value, deviation, generator);
    normal_linear(*cross_output, residual_deviation, generator);
  }
  feed_forward->initialize(generator, deviation, residual_deviation);
}

torch::Tensor TextBlock::attend(const torch::Tensor& normed, const PackedTokens& x, const TextBlockInputs& inputs,
                                const ForwardContext& context, const std::string& part) const {
  const PackLayout& layout = *x.layout;
  const int64_t heads = shape.heads, few = shape.key_value_heads, d = shape.head_width;
  AttentionOptions options;
  options.causal = shape.causal;
  options.relative_bias = inputs.relative_bias;
  options.scale = shape.scaled ? 0 : 1;
  const torch::Tensor projected = qkv->forward(normed);
  context.count(part + " / attention projections", layout.lengths(), qkv->cost_per_row() + output->cost_per_row());
  const auto count_pairs = [&](const PackLayout& keys) {
    count_attention(context, part + " / attention", layout, keys, shape.causal, heads * d, few * d);
  };
  if (heads == few && shape.rotary_base == 0 && inputs.cache == nullptr) {
    count_pairs(layout);
    return packed_self_attention(projected.view({-1, 3, heads, d}), layout, options);
  }
  const std::vector<torch::Tensor> parts = projected.view({-1, heads + 2 * few, d}).split_with_sizes({heads, few, few}, 1);
  torch::Tensor query = parts[0], key = parts[1];
  if (shape.rotary_base > 0) {
    query = rotate_by_position(query, inputs.positions, shape.rotary_base);
    key = rotate_by_position(key, inputs.positions, shape.rotary_base);
  }
  if (inputs.cache == nullptr) {
    count_pairs(layout);
    return packed_attention(query, key, parts[2], layout, layout, options);
  }
  KeyValueCache& cache = inputs.cache->own;
  cache.append(key, parts[2], x.layout);
  count_pairs(*cache.layout);
  return packed_attention(query, cache.key, cache.value, layout, *cache.layout, options);
}

torch::Tensor TextBlock::attend_memory(const torch::Tensor& normed, const PackLayout& layout, const TextBlockInputs& inputs,
                                       const ForwardContext& context, const std::string& part) const {
  const int64_t heads = shape.heads, few = shape.key_value_heads, d = shape.head_width;
  KeyValueCache made;
  KeyValueCache& memory = inputs.cache != nullptr ? inputs.cache->memory : made;
  if (!memory.key.defined()) {
    ADATAPE_CHECK(inputs.memory != nullptr, "model", "expected a memory for cross-attention, got none");
    const std::vector<torch::Tensor> halves = cross_key_value->forward(inputs.memory->values).view({-1, 2, few, d}).unbind(1);
    memory.append(halves[0], halves[1], inputs.memory->layout);
    context.count(part + " / memory projections", inputs.memory->layout->lengths(), cross_key_value->cost_per_row());
  }
  AttentionOptions options;
  options.scale = shape.scaled ? 0 : 1;
  context.count(part + " / cross-attention projections", layout.lengths(), cross_query->cost_per_row() + cross_output->cost_per_row());
  count_attention(context, part + " / cross-attention", layout, *memory.layout, /*causal=*/false, heads * d, few * d);
  return packed_attention(cross_query->forward(normed).view({-1, heads, d}), memory.key, memory.value, layout, *memory.layout, options);
}

PackedTokens TextBlock::forward(const PackedTokens& x, const TextBlockInputs& inputs, const ForwardContext& context, int64_t index,
                                const std::string& part) const {
  const PackLayout& layout = *x.layout;
  const uint32_t place = 3 * static_cast<uint32_t>(index);
  const auto dropped = [&](const torch::Tensor& branch, uint32_t which) {
    return dropout(branch, layout, shape.dropout, context, place + which);
  };
  const auto feed = [&](const torch::Tensor& normed) {
    context.count(part + " / feed-forward", layout.lengths(), feed_forward->cost_per_row());
    return dropped(feed_forward->forward(normed), 2);
  };
  const torch::Tensor normed = attention_norm->forward(x.values);
  torch::Tensor values = x.values + dropped(output->forward(attend(normed, x, inputs, context, part)), 0);
  if (shape.parallel) return {values + feed(normed), x.layout};
  if (shape.cross_attention) {
    const torch::Tensor seen = attend_memory(cross_norm->forward(values), layout, inputs, context, part);
    values = values + dropped(cross_output->forward(seen), 1);
  }
  return {values + feed(feed_forward_norm->forward(values)), x.layout};
}

}  // namespace adatape
