// Rows of bfloat16 or float32 as the kernels of this folder take them: 8 values (16 bytes of bfloat16) at a time, summed in float32.
#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_bf16.h>

#include <algorithm>

#include "adatape/ops/half_block/half_block_cuda.h"

namespace adatape::ops {
namespace {

using bfloat16 = __nv_bfloat16;

struct Eight {
  float v[8];
};

__device__ Eight load(const bfloat16* from) {
  const uint4 raw = *reinterpret_cast<const uint4*>(from);
  const __nv_bfloat162* const pairs = reinterpret_cast<const __nv_bfloat162*>(&raw);
  Eight out;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __bfloat1622float2(pairs[i]);
    out.v[2 * i] = pair.x;
    out.v[2 * i + 1] = pair.y;
  }
  return out;
}

__device__ Eight load(const float* from) {
  const float4 a = reinterpret_cast<const float4*>(from)[0], b = reinterpret_cast<const float4*>(from)[1];
  return {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
}

__device__ void store(bfloat16* to, const Eight& x) {
  uint4 raw;
  __nv_bfloat162* const pairs = reinterpret_cast<__nv_bfloat162*>(&raw);
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __floats2bfloat162_rn(x.v[2 * i], x.v[2 * i + 1]);
  *reinterpret_cast<uint4*>(to) = raw;
}

__device__ void store(float* to, const Eight& x) {
  reinterpret_cast<float4*>(to)[0] = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
}

// Where a row of the groups lies: the first `rows` rows in one tensor, the others in a second.
template <class T>
struct Groups {
  T* first;
  T* second;
  const int* places;  // null: rows as they lie
  int64_t rows;
  int dim;

  __device__ T* row(int64_t i) const {
    const int64_t place = places == nullptr ? i : places[i];
    return place < rows ? first + place * dim : second + (place - rows) * dim;
  }
};

bfloat16* half_data(const at::Tensor& x) { return x.defined() ? static_cast<bfloat16*>(x.mutable_data_ptr()) : nullptr; }

template <class T>
Groups<T> groups_of(const at::Tensor& first, const at::Tensor& second, const RowSplit& split, int64_t dim) {
  return {half_data(first), half_data(second), split.places.defined() ? split.places.const_data_ptr<int>() : nullptr, first.size(0),
          static_cast<int>(dim)};
}

template <class Call>
void with_type(const at::Tensor& x, const Call& call) {
  if (x.scalar_type() == at::kFloat) return call(float{});
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "half block: expected rows of float32 or bfloat16, got ", x.scalar_type());
  call(bfloat16{});
}

}  // namespace
}  // namespace adatape::ops
