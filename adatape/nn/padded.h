// Numbers that were drawn for examples of equal length, cut down to the tokens that exist.
#pragma once

#include "adatape/nn/pack_layout.h"

namespace adatape {

// padded [B x longest, dim] on the CPU -> [total, dim]: row i of an example is that of its i-th token, whatever its batch mates' lengths.
torch::Tensor without_padding(const torch::Tensor& padded, const PackLayout& layout);

}  // namespace adatape
