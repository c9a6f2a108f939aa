// The pre-norm transformer block that all models share: x + Attn(LN(x)), then x + FFN(LN(x)), on packed tokens.
// Source: arXiv 2010.11929; the second feed-forward network for tape tokens: arXiv 2301.13195.
#pragma once

#include "adatape/nn/attention.h"
#include "adatape/nn/feed_forward.h"
#include "adatape/nn/forward_context.h"
#include "adatape/nn/mixture_of_experts.h"

namespace adatape {

struct EncoderBlockShape {
  int64_t width = 0, heads = 0, ffn_width = 0;
  int64_t tape_ffn_width = 0;  // 0: tape tokens share the feed-forward network of input tokens
  Gelu gelu = Gelu::kTanh;
  double dropout = 0;
  std::optional<MoeConfig> moe = {};  // experts in the place of the feed-forward network (tape tokens with one of their own keep it)
};

struct EncoderBlock : Module {
  explicit EncoderBlock(const EncoderBlockShape& shape);
  void initialize(at::Generator& generator);

  // index: which block (or step) this is, for random draws and the names of its work. stochastic_depth: rate of dropping a residual.
  PackedTokens forward(const PackedTokens& x, const ForwardContext& context, int64_t index, double stochastic_depth = 0) const;

  // New states of `queries` [Tq, D] (layout query_layout) that attend to `keys` [Tk, D]; tokens that are keys only cost their key and value
  // projections. Both layouts have the batch of the context. one_query: every example has one query and some keys, so that where
  // ops::one_query_attention serves, keys and values are not made at all. Returns [Tq, D].
  torch::Tensor forward_queries(const torch::Tensor& queries, const std::shared_ptr<const PackLayout>& query_layout,
                                const torch::Tensor& keys, const PackLayout& key_layout, const ForwardContext& context, int64_t index,
                                double stochastic_depth = 0, bool one_query = false) const;

  std::shared_ptr<LayerNorm> attention_norm, feed_forward_norm;
  std::shared_ptr<Linear> qkv, output;        // [3 D, D] (query, key, value), [D, D]
  std::shared_ptr<Mlp> feed_forward;          // null: experts
  std::shared_ptr<MixtureOfExperts> experts;  // null: dense
  std::shared_ptr<GluMlp> tape_feed_forward;  // null: shared
  EncoderBlockShape shape;

 private:
  torch::Tensor finish(const torch::Tensor& x, const torch::Tensor& attended, const PackLayout& layout, const ForwardContext& context,
                       int64_t index, double stochastic_depth) const;
  PackedTokens forward_packed(const PackedTokens& x, const ForwardContext& context, const std::string& part) const;
  torch::Tensor finish_packed(const torch::Tensor& x, const torch::Tensor& attended, const PackLayout& layout,
                              const ForwardContext& context, const std::string& part) const;
  bool half_serves(const PackedTokens& x, const ForwardContext& context, double stochastic_depth) const;
  PackedTokens forward_half(const PackedTokens& x, const ForwardContext& context, const std::string& part) const;
  void count_feed_forward(const PackLayout& layout, const ForwardContext& context, const std::string& part) const;
  torch::Tensor feed_forward_of(const torch::Tensor& x, const PackLayout& layout, const ForwardContext& context, int64_t index) const;
};

}  // namespace adatape
