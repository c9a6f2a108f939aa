// Linear layers of inference on the CPU, on weights stored once in the order in which the kernel reads them. The norm before the product
// and the activation and residual after it are done while the rows are in the cache; any number of rows runs without preparation.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace adatape::ops {

enum class Activation { kNone, kGeluTanh, kGeluExact, kGated };  // gated: columns are halves a, g: a * sigmoid(g)

struct PackedWeight {
  at::Tensor panels;  // 1-D, float32 or bfloat16: [out / panel][in][panel], bfloat16 in pairs of inputs; zeros behind the last column
  at::Tensor bias;    // float32, in the order of the panels
  int64_t in = 0;
  int64_t out = 0;  // columns of the result: half the weight's rows where gated
  int64_t lanes = 0;
  bool gated = false;
  bool defined() const { return panels.defined(); }
  bool half() const { return panels.scalar_type() == at::kBFloat16; }
};

// True where products of bfloat16 with float32 sums are instructions of this processor.
bool has_bfloat16_products();

std::string packed_linear_kernel_name(at::ScalarType products);  // "packed avx512 float32" and its like

// weight [out, in] float32 on the CPU; bias [out] or undefined. products: kFloat, or kBFloat16 where has_bfloat16_products(): both factors
// are then rounded to bfloat16, sums stay float32. A gated weight has an even number of rows. vector_bytes: 0 the widest, else 32 or 64.
PackedWeight pack_weight(const at::Tensor& weight, const at::Tensor& bias, at::ScalarType products, bool gated = false,
                         int vector_bytes = 0);

// Columns first .. first + count of the result alone, on the same memory; undefined where that cuts a panel or the weight is gated.
PackedWeight columns_of(const PackedWeight& weight, int64_t first, int64_t count);

// LayerNorm of the rows that enter a product: weight, bias [in] float32; undefined weight: no norm.
struct RowNorm {
  at::Tensor weight, bias;
  double epsilon = 0;
};

// activation(norm(x) W^T + b) + residual. x [rows, in] float32, last stride 1; residual [rows, out] contiguous or undefined -> [rows, out].
// The activation is kGated exactly where the weight is. Without a gradient.
at::Tensor packed_linear(const at::Tensor& x, const PackedWeight& weight, const RowNorm& norm = {},
                         Activation activation = Activation::kNone, const at::Tensor& residual = {});

// out[r] = x[r] + W2 activation(W1 norm(x[r]) + b1) + b2 for the rows r listed (int64, CPU; undefined: all), others stay as they are: the
// residual branch of a block, for tokens of one kind where they lie. x, out [n, D] float32 contiguous, not the same memory.
void packed_mlp(const at::Tensor& x, const at::Tensor& rows, const RowNorm& norm, const PackedWeight& expand, Activation activation,
                const PackedWeight& contract, at::Tensor& out);

}  // namespace adatape::ops
