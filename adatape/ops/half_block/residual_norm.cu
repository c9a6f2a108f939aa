// Residual sums and LayerNorm in one pass over the rows: a warp a row, which it holds in registers, 8 values (16 bytes of bfloat16) at a time.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_bf16.h>

#include "adatape/ops/half_block/half_block_cuda.h"

namespace adatape::ops {
namespace {

constexpr int kWarps = 4;  // of a block

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

__device__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
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

// kGroups: groups of 8 values that a lane holds, dim <= 256 * kGroups.
template <int kGroups, class X>
__global__ void __launch_bounds__(32 * kWarps) norm_forward(const X* x, const bfloat16* branch, const float* weight, const float* bias,
                                                            float epsilon, int64_t count, X* sum, Groups<bfloat16> normed,
                                                            float2* statistics) {
  const int lane = threadIdx.x, dim = normed.dim;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.y;
  if (row >= count) return;
  Eight held[kGroups];
  float total = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int at = (g * 32 + lane) * 8;
    if (at < dim) held[g] = load(x + row * dim + at);
  }
  if (branch != nullptr) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int at = (g * 32 + lane) * 8;
      if (at >= dim) continue;
      const Eight added = load(branch + row * dim + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) held[g].v[i] += added.v[i];
      store(sum + row * dim + at, held[g]);
    }
  }
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    if ((g * 32 + lane) * 8 >= dim) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i) total += held[g].v[i];
  }
  const float mean = warp_sum(total) / dim;
  float squares = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    if ((g * 32 + lane) * 8 >= dim) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i) squares += (held[g].v[i] - mean) * (held[g].v[i] - mean);
  }
  const float scale = rsqrtf(warp_sum(squares) / dim + epsilon);
  if (statistics != nullptr && lane == 0) statistics[row] = make_float2(mean, scale);
  bfloat16* const out = normed.row(row);
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int at = (g * 32 + lane) * 8;
    if (at >= dim) continue;
    const Eight w = load(weight + at), b = load(bias + at);
    Eight y;
#pragma unroll
    for (int i = 0; i < 8; ++i) y.v[i] = (held[g].v[i] - mean) * scale * w.v[i] + b.v[i];
    store(out + at, y);
  }
}

// Blocks take rows in turn; each leaves its sums of the gradients of weight and bias in partial[block]: [2, dim].
template <int kGroups, class X>
__global__ void __launch_bounds__(32 * kWarps) norm_backward(const X* grad_sum, Groups<const bfloat16> grad, const X* sum,
                                                             const float2* statistics, const float* weight, int64_t count, X* of_sum,
                                                             bfloat16* of_branch, float* partial) {
  extern __shared__ float shared[];  // [kWarps, 2, dim]
  const int lane = threadIdx.x, warp = threadIdx.y, dim = grad.dim;
  Eight of_weight[kGroups], of_bias[kGroups];
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
#pragma unroll
    for (int i = 0; i < 8; ++i) of_weight[g].v[i] = of_bias[g].v[i] = 0;
  }
  for (int64_t row = int64_t{blockIdx.x} * kWarps + warp; row < count; row += int64_t{gridDim.x} * kWarps) {
    const bfloat16* const from = grad.row(row);
    const float2 known = statistics[row];
    Eight unit[kGroups], through[kGroups];
    float mean_through = 0, mean_both = 0;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int at = (g * 32 + lane) * 8;
      if (at >= dim) continue;
      unit[g] = load(sum + row * dim + at);
      through[g] = load(from + at);
    }
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int at = (g * 32 + lane) * 8;
      if (at >= dim) continue;
      const Eight w = load(weight + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        unit[g].v[i] = (unit[g].v[i] - known.x) * known.y;
        of_weight[g].v[i] += through[g].v[i] * unit[g].v[i];
        of_bias[g].v[i] += through[g].v[i];
        through[g].v[i] *= w.v[i];
        mean_through += through[g].v[i];
        mean_both += through[g].v[i] * unit[g].v[i];
      }
    }
    mean_through = warp_sum(mean_through) / dim;
    mean_both = warp_sum(mean_both) / dim;
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
      const int at = (g * 32 + lane) * 8;
      if (at >= dim) continue;
      Eight out;
#pragma unroll
      for (int i = 0; i < 8; ++i) out.v[i] = known.y * (through[g].v[i] - mean_through - unit[g].v[i] * mean_both);
      if (grad_sum != nullptr) {
        const Eight more = load(grad_sum + row * dim + at);
#pragma unroll
        for (int i = 0; i < 8; ++i) out.v[i] += more.v[i];
      }
      store(of_sum + row * dim + at, out);
      if (of_branch != nullptr) store(of_branch + row * dim + at, out);
    }
  }
  float* const own = shared + warp * 2 * dim;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    const int at = (g * 32 + lane) * 8;
    if (at >= dim) continue;
    store(own + at, of_weight[g]);
    store(own + dim + at, of_bias[g]);
  }
  __syncthreads();
  for (int i = warp * 32 + lane; i < 2 * dim; i += 32 * kWarps) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += shared[w * 2 * dim + i];
    partial[int64_t{blockIdx.x} * 2 * dim + i] = total;
  }
}

template <class X>
__global__ void add_rows(const X* x, Groups<const bfloat16> branch, int64_t count, X* out) {
  const int dim = branch.dim, eighths = dim / 8;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count * eighths; i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = i / eighths, at = i % eighths * 8;
    Eight sum = load(x + row * dim + at);
    const Eight added = load(branch.row(row) + at);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum.v[k] += added.v[k];
    store(out + row * dim + at, sum);
  }
}

template <class X>
__global__ void part_rows(const X* x, int64_t count, Groups<bfloat16> out) {
  const int dim = out.dim, eighths = dim / 8;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count * eighths; i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = i / eighths, at = i % eighths * 8;
    store(out.row(row) + at, load(x + row * dim + at));
  }
}

// GELU's (tanh) derivative at `before` times grad, in bfloat16, and its sum over the rows that a block takes, in partial[block]. A thread
// holds the same 8 columns of every row that it takes: blockDim.x groups of 8 columns, blockDim.y rows at a time.
__global__ void __launch_bounds__(512) gelu_gradient(bfloat16* grad, const bfloat16* before, int64_t count, int dim, float* partial) {
  extern __shared__ float shared[];  // [blockDim.y, blockDim.x * 8]
  const int group = blockIdx.x * blockDim.x + threadIdx.x, at = group * 8;
  Eight sum = {};
  if (at < dim) {
    for (int64_t row = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < count; row += int64_t{gridDim.y} * blockDim.y) {
      Eight x = load(before + row * dim + at), g = load(grad + row * dim + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        constexpr float kBeta = 0.7978845608028654f, kKappa = 0.044715f;  // sqrt(2 / pi)
        const float v = x.v[i], square = v * v;
        float t;
        asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(kBeta * (v + kKappa * v * square)));
        g.v[i] *= 0.5f * (1 + t) + 0.5f * v * (1 - t * t) * kBeta * (1 + 3 * kKappa * square);
        sum.v[i] += g.v[i];
      }
      store(grad + row * dim + at, g);
    }
  }
  float* const own = shared + (threadIdx.y * blockDim.x + threadIdx.x) * 8;
  store(own, sum);
  __syncthreads();
  if (threadIdx.y == 0 && at < dim) {
    for (unsigned y = 1; y < blockDim.y; ++y) {
      const Eight more = load(shared + (y * blockDim.x + threadIdx.x) * 8);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += more.v[i];
    }
    store(partial + int64_t{blockIdx.y} * dim + at, sum);
  }
}

// Sums over the rows of each example, 256 columns and all rows of one a block: a fixed order, where additions by index have none.
template <class X>
__global__ void __launch_bounds__(256) sum_segments(const X* x, const int64_t* offsets, int dim, float* out) {
  __shared__ float shared[8][256];
  const int at = (blockIdx.y * 32 + threadIdx.x) * 8;
  Eight sum = {};
  if (at < dim) {
    for (int64_t row = offsets[blockIdx.x] + threadIdx.y; row < offsets[blockIdx.x + 1]; row += 8) {
      const Eight more = load(x + row * dim + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum.v[i] += more.v[i];
    }
  }
  store(&shared[threadIdx.y][threadIdx.x * 8], sum);
  __syncthreads();
  if (threadIdx.y > 0 || at >= dim) return;
  for (int y = 1; y < 8; ++y) {
    const Eight more = load(&shared[y][threadIdx.x * 8]);
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.v[i] += more.v[i];
  }
  store(out + int64_t{blockIdx.x} * dim + at, sum);
}

// x += table[row % period].
template <class Table>
__global__ void add_table_rows(bfloat16* x, const Table* table, int64_t count, int64_t period, int dim) {
  const int eighths = dim / 8;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count * eighths; i += int64_t{gridDim.x} * blockDim.x) {
    const int64_t row = i / eighths, at = i % eighths * 8;
    Eight sum = load(x + row * dim + at);
    const Eight added = load(table + row % period * dim + at);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum.v[k] += added.v[k];
    store(x + row * dim + at, sum);
  }
}

bfloat16* half_data(const at::Tensor& x) { return x.defined() ? static_cast<bfloat16*>(x.mutable_data_ptr()) : nullptr; }

template <class T>
Groups<T> groups_of(const at::Tensor& first, const at::Tensor& second, const RowSplit& split, int64_t dim) {
  return {half_data(first), half_data(second), split.places.defined() ? split.places.const_data_ptr<int>() : nullptr, first.size(0),
          static_cast<int>(dim)};
}

// Calls with the number of groups of 8 a lane as a constant.
template <class Call>
void with_groups(int64_t dim, const Call& call) {
  switch ((dim + 255) / 256) {
    case 1: return call(std::integral_constant<int, 1>{});
    case 2: return call(std::integral_constant<int, 2>{});
    case 3: return call(std::integral_constant<int, 3>{});
    case 4: return call(std::integral_constant<int, 4>{});
    case 5: case 6: return call(std::integral_constant<int, 6>{});
    default: return call(std::integral_constant<int, 8>{});
  }
}

template <class Call>
void with_type(const at::Tensor& x, const Call& call) {
  if (x.scalar_type() == at::kFloat) return call(float{});
  TORCH_CHECK(x.scalar_type() == at::kBFloat16, "half block: expected rows of float32 or bfloat16, got ", x.scalar_type());
  call(bfloat16{});
}

int blocks_for(int64_t items, int64_t each) { return static_cast<int>(std::min<int64_t>((items + each - 1) / each, 132 * 16)); }

}  // namespace

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> residual_norm_cuda(const at::Tensor& x, const at::Tensor& branch,
                                                                              const at::Tensor& weight, const at::Tensor& bias,
                                                                              double epsilon, const RowSplit& split, bool keep) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), dim = x.size(1);
  const at::TensorOptions half = x.options().dtype(at::kBFloat16);
  const int64_t of_first = split.places.defined() ? split.first : rows;
  const at::Tensor first = at::empty({of_first, dim}, half);
  const at::Tensor second = split.places.defined() ? at::empty({rows - of_first, dim}, half) : at::Tensor();
  const at::Tensor sum = branch.defined() ? at::empty_like(x) : x;
  const at::Tensor statistics = keep ? at::empty({rows, 2}, x.options().dtype(at::kFloat)) : at::Tensor();
  if (rows == 0) return {sum, first, second, statistics};
  const auto stream = c10::cuda::getCurrentCUDAStream();
  with_type(x, [&](auto type) {
    using X = decltype(type);
    with_groups(dim, [&](auto groups) {
      norm_forward<groups.value, X><<<static_cast<unsigned>((rows + kWarps - 1) / kWarps), dim3(32, kWarps), 0, stream>>>(
          static_cast<const X*>(x.const_data_ptr()), half_data(branch), weight.const_data_ptr<float>(), bias.const_data_ptr<float>(),
          static_cast<float>(epsilon), rows, static_cast<X*>(sum.mutable_data_ptr()), groups_of<bfloat16>(first, second, split, dim),
          keep ? static_cast<float2*>(statistics.mutable_data_ptr()) : nullptr);
    });
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {sum, first, second, statistics};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> residual_norm_backward_cuda(const at::Tensor& grad_sum,
                                                                                       const at::Tensor& grad_first,
                                                                                       const at::Tensor& grad_second,
                                                                                       const at::Tensor& sum, const at::Tensor& statistics,
                                                                                       const at::Tensor& weight, const RowSplit& split,
                                                                                       bool of_branch) {
  const c10::cuda::CUDAGuard guard(sum.device());
  const int64_t rows = sum.size(0), dim = sum.size(1);
  const at::TensorOptions half = sum.options().dtype(at::kBFloat16), whole = sum.options().dtype(at::kFloat);
  const int64_t of_first = split.places.defined() ? split.first : rows;
  // What nobody used has a gradient of zero.
  const at::Tensor first = grad_first.defined() ? grad_first : at::empty({of_first, dim}, half).zero_();
  const at::Tensor second =
      !split.places.defined() ? at::Tensor() : grad_second.defined() ? grad_second : at::empty({rows - of_first, dim}, half).zero_();
  const at::Tensor result = at::empty_like(sum), branch = of_branch ? at::empty({rows, dim}, half) : at::Tensor();
  const int64_t blocks = std::max<int64_t>(1, std::min<int64_t>((rows + kWarps - 1) / kWarps, 132 * 4));
  const at::Tensor partial = at::empty({blocks, 2, dim}, whole);
  const size_t shared = static_cast<size_t>(kWarps * 2 * dim) * sizeof(float);
  const auto stream = c10::cuda::getCurrentCUDAStream();
  with_type(sum, [&](auto type) {
    using X = decltype(type);
    with_groups(dim, [&](auto groups) {
      const auto kernel = norm_backward<groups.value, X>;
      if (shared > 48 * 1024)
        C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
      kernel<<<static_cast<unsigned>(blocks), dim3(32, kWarps), shared, stream>>>(
          grad_sum.defined() ? static_cast<const X*>(grad_sum.const_data_ptr()) : nullptr,
          groups_of<const bfloat16>(first, second, split, dim), static_cast<const X*>(sum.const_data_ptr()),
          static_cast<const float2*>(statistics.const_data_ptr()), weight.const_data_ptr<float>(), rows,
          static_cast<X*>(result.mutable_data_ptr()), half_data(branch), partial.mutable_data_ptr<float>());
    });
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const at::Tensor sums = partial.sum(0);
  return {result, branch, sums.select(0, 0), sums.select(0, 1)};
}

at::Tensor residual_add_cuda(const at::Tensor& given, const at::Tensor& first, const at::Tensor& second, const RowSplit& split) {
  const at::Tensor x = given.contiguous(), a = first.contiguous(), b = second.defined() ? second.contiguous() : second;
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor out = at::empty_like(x);
  const int64_t rows = x.size(0), dim = x.size(1);
  if (rows == 0) return out;
  with_type(x, [&](auto type) {
    using X = decltype(type);
    add_rows<X><<<blocks_for(rows * dim / 8, 256), 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
        static_cast<const X*>(x.const_data_ptr()), groups_of<const bfloat16>(a, b, split, dim), rows, static_cast<X*>(out.mutable_data_ptr()));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

std::tuple<at::Tensor, at::Tensor> split_rows_cuda(const at::Tensor& x, const RowSplit& split) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), dim = x.size(1);
  const at::TensorOptions half = x.options().dtype(at::kBFloat16);
  const int64_t of_first = split.places.defined() ? split.first : rows;
  const at::Tensor first = at::empty({of_first, dim}, half);
  const at::Tensor second = split.places.defined() ? at::empty({rows - of_first, dim}, half) : at::Tensor();
  if (rows == 0) return {first, second};
  with_type(x, [&](auto type) {
    using X = decltype(type);
    part_rows<X><<<blocks_for(rows * dim / 8, 256), 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
        static_cast<const X*>(x.const_data_ptr()), rows, groups_of<bfloat16>(first, second, split, dim));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {first, second};
}

at::Tensor gelu_gradient_cuda(at::Tensor& grad, const at::Tensor& before) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int64_t rows = grad.size(0), dim = grad.size(1);
  const dim3 threads(32, 16), blocks(static_cast<unsigned>((dim / 8 + 31) / 32),
                                     static_cast<unsigned>(std::max<int64_t>(1, std::min<int64_t>((rows + 15) / 16, 64))));
  const at::Tensor partial = at::empty({blocks.y, dim}, grad.options().dtype(at::kFloat));
  gelu_gradient<<<blocks, threads, 32 * 16 * 8 * sizeof(float), c10::cuda::getCurrentCUDAStream()>>>(
      half_data(grad), half_data(before), rows, static_cast<int>(dim), partial.mutable_data_ptr<float>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return partial.sum(0);
}

void add_table_cuda(at::Tensor& x, const at::Tensor& table) {
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t rows = x.size(0), dim = x.size(1);
  if (rows == 0) return;
  with_type(table, [&](auto type) {
    using Table = decltype(type);
    add_table_rows<Table><<<blocks_for(rows * dim / 8, 256), 256, 0, c10::cuda::getCurrentCUDAStream()>>>(
        half_data(x), static_cast<const Table*>(table.const_data_ptr()), rows, table.size(0), static_cast<int>(dim));
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
}

at::Tensor segment_sums_cuda(const at::Tensor& given, const at::Tensor& offsets) {
  const at::Tensor x = given.contiguous();
  const c10::cuda::CUDAGuard guard(x.device());
  const int64_t batch = offsets.size(0) - 1, dim = x.size(1);
  const at::Tensor out = at::empty({batch, dim}, x.options().dtype(at::kFloat));
  if (batch == 0) return out;
  with_type(x, [&](auto type) {
    using X = decltype(type);
    sum_segments<X><<<dim3(static_cast<unsigned>(batch), static_cast<unsigned>((dim + 255) / 256)), dim3(32, 8), 0,
                      c10::cuda::getCurrentCUDAStream()>>>(static_cast<const X*>(x.const_data_ptr()), offsets.const_data_ptr<int64_t>(),
                                                           static_cast<int>(dim), out.mutable_data_ptr<float>());
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return out;
}

}  // namespace adatape::ops
