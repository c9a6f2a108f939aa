// What a row of one part of a forward pass costs.
#pragma once

#include <array>
#include <compare>
#include <cstdint>

namespace adatape {

// [rows, in] times a weight of [out, in].
struct ProductShape {
  int64_t in = 0, out = 0;
  auto operator<=>(const ProductShape&) const = default;
};

struct RowCost {
  int64_t flops = 0;                          // 2 x multiply-adds
  int64_t numbers = 0;                        // values that the part reads and writes, what it keeps for itself not counted
  int64_t weights = 0;                        // numbers of its parameters: read once in a pass, however many rows there are
  std::array<ProductShape, 2> products = {};  // the matrix products that it enters, none where `in` is 0
};

// Each side has one product at most.
inline RowCost operator+(const RowCost& a, const RowCost& b) {
  return {a.flops + b.flops, a.numbers + b.numbers, a.weights + b.weights, {a.products[0], b.products[0]}};
}

// A matrix product [rows, in] -> [rows, out] with or without a bias.
inline RowCost product_cost(int64_t in, int64_t out, bool with_bias) {
  return {2 * in * out, in + out, in * out + (with_bias ? out : 0), {{{in, out}, {}}}};
}

}  // namespace adatape
