// Linear layers, y = x W^T + b, counted: with ops/dense_mlp (both layers of a feed-forward network) the matrix products of training. And
// the norm in front of them.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <map>

#include "adatape/nn/module.h"
#include "adatape/nn/row_cost.h"
#include "adatape/ops/packed_linear/packed_linear.h"

namespace adatape {

// x [rows, in], weight [out, in], bias [out] or undefined -> [rows, out]. Counted, as count_products() does.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);

// The same on the packed weight where packed_path() says so.
torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, const ops::PackedWeight& packed);

// True where x [rows, in] and its layers can take the packed way: no gradient, float32 on the CPU.
bool packed_path(const torch::Tensor& x, const ops::PackedWeight& weight);

// FLOPs of all matrix products (attention included) that this process has really done in forward passes: tests hold the cost model to it.
int64_t matrix_product_flops();
void add_matrix_product_flops(int64_t flops);

// Rows that enter the products of a cost: for products that linear() does not make.
void count_products(int64_t rows, const RowCost& cost);

// While it lives, counts the rows that enter each product with a weight in this process, by the product's shape. One at a time.
class ProductRowCounter {
 public:
  ProductRowCounter();
  ~ProductRowCounter();
  ProductRowCounter(const ProductRowCounter&) = delete;
  ProductRowCounter& operator=(const ProductRowCounter&) = delete;
  std::map<ProductShape, int64_t> rows() const;
};

struct Linear : Module {
  Linear(int64_t in, int64_t out, bool with_bias = true);
  torch::Tensor forward(const torch::Tensor& x) const { return linear(x, weight, bias, packed); }
  RowCost cost_per_row() const { return product_cost(weight.size(1), weight.size(0), bias.defined()); }
  torch::Tensor weight;      // [out, in]
  torch::Tensor bias;        // [out]
  ops::PackedWeight packed;  // undefined before pack_for_inference

 protected:
  void pack(torch::Dtype products) override;
  void unpack() override { packed = {}; }
};

// LayerNorm over the last dimension: x [..., dim], weight [dim], bias [dim] or undefined. float32 on the CPU by ops/layer_norm.
torch::Tensor layer_norm(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias, double epsilon);

struct LayerNorm : Module {
  explicit LayerNorm(int64_t dim, double epsilon_ = 1e-6);
  torch::Tensor forward(const torch::Tensor& x) const;
  ops::RowNorm rows() const { return {weight, bias, epsilon}; }  // to be fused into a product
  torch::Tensor weight, bias;                                    // [dim]
  double epsilon;
};

}  // namespace adatape
