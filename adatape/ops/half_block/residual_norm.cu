// Residual sums and LayerNorm in one pass over the rows: a warp a row, which it holds in registers.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "adatape/ops/half_block/half_rows.cuh"

namespace adatape::ops {
namespace {

constexpr int kWarps = 4;  // of a block

__device__ float warp_sum(float x) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

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
  extern __shared__ __align__(16) float shared[];  // [kWarps, 2, dim]
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

}  // namespace adatape::ops
