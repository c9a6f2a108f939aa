// A feed-forward layer of several networks of which each token is served by a few. Source: V-MoE, arXiv 2106.05974.
#pragma once

#include "adatape/core/config.h"
#include "adatape/nn/feed_forward.h"
#include "adatape/nn/forward_context.h"
#include "adatape/nn/moe_router.h"

namespace adatape {

// `[model.moe]` of every encoder.
struct MoeConfig {
  int64_t experts = 0;  // 0: dense feed-forward networks
  int64_t top_k = 2;
  int64_t every = 2;                 // blocks every - 1, 2 every - 1 ... have experts
  std::optional<int64_t> ffn_width;  // "ffn_width"
  double capacity = 1.05;            // while training
  double evaluation_capacity = 0;    // 0: nothing is dropped
  int64_t capacity_multiple = 1;
  bool batch_priority = false;
  bool noise = true;
  std::string group = "example";  // example | batch
  double importance_weight = 0.005;
  double load_weight = 0.005;

  void fields(FieldVisitor& visit);
  bool examples_are_independent() const { return experts == 0 || group == "example"; }
};

struct MixtureOfExperts : Module {
  // Networks of one hidden layer [dim, width, dim].
  MixtureOfExperts(const MoeConfig& config, int64_t dim, int64_t width, Gelu gelu);
  void initialize(at::Generator& generator);

  // x [T, D] by layout -> [T, D]: the sum over a token's kept choices of gate x expert(token), 0 where none was kept (the block adds the
  // residual). Tokens of an expert come together; nothing is padded or masked. index: which block (or step), for the noise; part: the name
  // of its work. Adds its losses to context.auxiliary_losses.
  torch::Tensor forward(const torch::Tensor& x, const PackLayout& layout, const ForwardContext& context, int64_t index,
                        const std::string& part) const;
  // What the experts make of it, once the routing is known.
  torch::Tensor forward_routed(const torch::Tensor& x, const MoeRouting& routing) const;
  // Of a choice; weights: all experts'.
  RowCost expert_cost_per_row() const {
    const int64_t inner = expand_weight.size(1), width = expand_weight.size(2);
    return {4 * width * inner,
            2 * (width + inner),
            2 * expand_weight.numel() + expand_weight.size(0) * (width + inner),
            {{{width, inner}, {inner, width}}}};
  }

  MoeConfig config;
  Gelu gelu;
  std::shared_ptr<Linear> router;                // [experts, D], no bias
  torch::Tensor expand_weight, expand_bias;      // [experts, m, D], [experts, m]
  torch::Tensor contract_weight, contract_bias;  // [experts, D, m], [experts, D]

 private:
  // rows [R, D], offsets[e] .. offsets[e + 1] of them expert e's, R > 0 -> [R, D].
  torch::Tensor one_by_one(const torch::Tensor& rows, const std::vector<int64_t>& offsets) const;
};

}  // namespace adatape
