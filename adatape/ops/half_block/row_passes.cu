// Passes over rows that no product takes along: rows added, split into groups, summed for each example; GELU's gradient; tables of positions.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "adatape/ops/half_block/half_rows.cuh"

namespace adatape::ops {
namespace {

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
  extern __shared__ __align__(16) float shared[];  // [blockDim.y, blockDim.x * 8]
  const int group = blockIdx.x * blockDim.x + threadIdx.x, at = group * 8;
  Eight sum = {};
  if (at < dim) {
    for (int64_t row = int64_t{blockIdx.y} * blockDim.y + threadIdx.y; row < count; row += int64_t{gridDim.y} * blockDim.y) {
      Eight x = load(before + row * dim + at), g = load(grad + row * dim + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        constexpr float kBeta = 0.7978845608028654f, kKappa = 0.044715f;  // sqrt(2 / pi)
        // Past 15 the derivative is 0 or 1 to the last bit; the square of a huge number would be infinite, and 0 times that no number.
        const float v = x.v[i] < -15.0f ? -15.0f : x.v[i] > 15.0f ? 15.0f : x.v[i], square = v * v;
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
  __shared__ __align__(16) float shared[8][256];
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

int blocks_for(int64_t items, int64_t each) { return static_cast<int>(std::min<int64_t>((items + each - 1) / each, 132 * 16)); }

}  // namespace

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
