// What a row of one part of a forward pass costs.
#pragma once

#include <cstdint>

namespace adatape {

struct RowCost {
  int64_t flops = 0;    // 2 x multiply-adds
  int64_t numbers = 0;  // values that the part reads and writes, what it keeps for itself not counted
  int64_t weights = 0;  // numbers of its parameters: read once in a pass, however many rows there are
};

inline RowCost operator+(const RowCost& a, const RowCost& b) { return {a.flops + b.flops, a.numbers + b.numbers, a.weights + b.weights}; }

// A matrix product [rows, in] -> [rows, out] with or without a bias.
inline RowCost product_cost(int64_t in, int64_t out, bool with_bias) { return {2 * in * out, in + out, in * out + (with_bias ? out : 0)}; }

}  // namespace adatape
