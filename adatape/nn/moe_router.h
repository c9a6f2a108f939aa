// Which experts serve a token: top-k gates, capacity, order of service, and the losses that keep the load even.
// Source: V-MoE, arXiv 2106.05974, sections 2 and 4 and appendix A.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

namespace adatape {

struct MoeRouteOptions {
  int64_t selected = 2;           // k: experts that a token chooses
  double capacity = 0;            // C: an expert serves ceil(tokens k C / experts) choices of a group; 0: as many as come
  int64_t capacity_multiple = 1;  // the number is rounded up to a multiple of this
  bool batch_priority = false;    // who has the largest first gate is served first, not who stands in front
};

// What a router decided for tokens [T]. A group's first choices are all served before its second ones.
struct MoeRouting {
  torch::Tensor gates;            // [T, experts] softmax of the logits, with the noise; differentiable
  torch::Tensor chosen_gates;     // [T, k] of the choices, largest first; the weights of their experts, not renormalised
  torch::Tensor importance_loss;  // [groups]: squared coefficient of variation over experts of the gates' sums, without noise
  torch::Tensor load_loss;        // [groups]: the same of the chance that an expert is chosen when noise is drawn anew; 0 without noise
  // On the host, [T x k], a token's choices together:
  std::vector<int64_t> experts;
  std::vector<int64_t> positions;  // place in the expert's queue, -1: the expert was full
  std::vector<uint8_t> kept;       // 0: the expert was full
  int64_t selected = 0;
};

// logits [T, experts]; group_offsets [groups + 1] where the groups begin; noise [T, experts] N(0, 1), scaled by 1 / experts here, or
// undefined. Equal gates: the lower expert first. Throws Error where selected exceeds the experts.
MoeRouting route_tokens(const torch::Tensor& logits, const std::vector<int64_t>& group_offsets, const torch::Tensor& noise,
                        const MoeRouteOptions& options);

// How many choices an expert serves of a group of so many tokens; -1: all.
int64_t expert_capacity(int64_t tokens, int64_t experts, const MoeRouteOptions& options);

}  // namespace adatape
