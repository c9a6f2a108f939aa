// The block of text models on packed tokens, of which T5, GPT and PaLM are settings: pre-norm attention, optional attention to a memory
// (a decoder's cross-attention), feed-forward network; one after another, or both from one norm (parallel).
// Source: arXiv 1910.10683 (T5), 2005.14165 (GPT-3), 2204.02311 (PaLM). Vision and halting models use nn/encoder_block.h.
#pragma once

#include "adatape/nn/activated_mlp.h"
#include "adatape/nn/attention.h"
#include "adatape/nn/forward_context.h"
#include "adatape/nn/norm.h"

namespace adatape {

struct TextBlockShape {
  int64_t width = 0, heads = 0, key_value_heads = 0, head_width = 0, ffn_width = 0;
  NormKind norm = NormKind::kLayer;
  double epsilon = 1e-6;
  bool biases = true;  // of linears
  bool norm_bias = true;
  bool causal = true;
  bool cross_attention = false;  // between the two others; not with parallel
  bool parallel = false;         // x + attention(norm(x)) + feed-forward(norm(x))
  Activation activation = Activation::kGeluTanh;
  bool scaled = true;      // scores / sqrt(head_width)
  double rotary_base = 0;  // 0: no rotary positions
  double dropout = 0;
};

// Keys and values that a block has seen: its own tokens', and the memory's, which never change.
struct TextBlockCache {
  KeyValueCache own, memory;
};

// What a block needs beside its tokens.
struct TextBlockInputs {
  torch::Tensor positions;               // int64 [T]: of each token in its example; needed for rotary positions
  torch::Tensor relative_bias;           // [heads, 2 R + 1], or undefined: see AttentionOptions
  const PackedTokens* memory = nullptr;  // [Tm, D] of the same examples; needed for cross-attention
  TextBlockCache* cache = nullptr;       // not null: x continues what the cache holds, and is added to it
};

struct TextBlock : Module {
  explicit TextBlock(const TextBlockShape& shape);
  // Weights N(0, deviation^2) and those that write to the residual stream N(0, residual_deviation^2); 0: 1 / sqrt(inputs), and without
  // scaled scores queries another 1 / sqrt(head_width) smaller.
  void initialize(at::Generator& generator, double deviation, double residual_deviation);

  // index: which block of the model this is, for random draws and, with part ("block 1", "decoder block 0"), the names of its work.
  PackedTokens forward(const PackedTokens& x, const TextBlockInputs& inputs, const ForwardContext& context, int64_t index,
                       const std::string& part) const;

  TextBlockShape shape;
  std::shared_ptr<Norm> attention_norm, cross_norm, feed_forward_norm;  // the last one null where parallel
  std::shared_ptr<Linear> qkv, output;  // [(heads + 2 key_value_heads) d, D] (queries, keys, values), [D, heads d]
  std::shared_ptr<Linear> cross_query, cross_key_value, cross_output;  // [heads d, D], [2 key_value_heads d, D], [D, heads d]
  std::shared_ptr<ActivatedMlp> feed_forward;

 private:
  torch::Tensor attend(const torch::Tensor& normed, const PackedTokens& x, const TextBlockInputs& inputs, const ForwardContext& context,
                       const std::string& part) const;
  torch::Tensor attend_memory(const torch::Tensor& normed, const PackLayout& layout, const TextBlockInputs& inputs,
                              const ForwardContext& context, const std::string& part) const;
};

}  // namespace adatape
