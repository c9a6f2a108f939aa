// The one batch type: the tokens of all examples one after another, no padding.
#pragma once

#include "adatape/nn/pack_layout.h"

namespace adatape {

struct PackedTokens {
  torch::Tensor values;  // [total, dim]
  std::shared_ptr<const PackLayout> layout;
};

// tokens [sum of counts, dim], example by example: each example's tokens are put behind its own. Differentiable.
PackedTokens append_tokens(const PackedTokens& pack, const torch::Tensor& tokens, const std::vector<int64_t>& counts, TokenKind kind);

// Puts one token of each example [B, dim] (or one shared [dim]) in front. Differentiable.
PackedTokens prepend_token(const PackedTokens& pack, const torch::Tensor& token, TokenKind kind);

// The layout that is left when only these rows (ascending) stay; examples may become empty.
std::shared_ptr<const PackLayout> kept_layout(const PackLayout& layout, const std::vector<int64_t>& rows);

// Mean of each example's tokens except class tokens: [B, dim]; 0 for an example without tokens. Differentiable.
torch::Tensor mean_per_example(const PackedTokens& pack);

// The class token of each example: [B, dim], which may share memory with the pack. Error where there is none. Differentiable.
torch::Tensor class_tokens(const PackedTokens& pack);

}  // namespace adatape
