// Of which tokens a model's records are, where it halts token by token (ForwardOptions::record).
#pragma once

#include "adatape/models/model_output.h"
#include "adatape/nn/pack_layout.h"

namespace adatape {

// intermediates: token_counts int32 [B], the tokens of each example, and token_kinds int32 [total], the TokenKind of each in the order in
// which steps, remainders and the like have them.
void record_tokens(const PackLayout& layout, ModelOutput& output);

}  // namespace adatape
