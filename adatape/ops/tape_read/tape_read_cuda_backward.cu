// The gradient of adatape::tape_read on CUDA: a cluster of CTAs an example. The D-wide sums of all rows read come first, a warp a row; then
// the recursion over the steps, which is d wide and short, in every CTA alike; then the gradients, a thread a column. Sums have a fixed
// order and nothing is atomic, so bits repeat.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_put.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cmath>

#include "adatape/ops/tape_read/tape_read_cuda.cuh"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {
namespace cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;

struct BackwardParams {
  const void *query, *bank, *weight, *bias, *grad_tokens;
  int64_t bank_stride;
  const int64_t *offsets, *indices, *lengths;
  const float *weights, *grad_weights, *grad_ponder, *query_offset;
  void* grad_query;
  void* grad_bank;   // packed: the bank's rows, zero so far
  float* grad_rows;  // shared: [B T K, D], zero where nothing was read
  int64_t* row_of;   // shared: [B T K], row of the bank that grad_rows belong to; any row where nothing was read
  float* grad_norm;  // [B, 2, D]: of norm_weight, of norm_bias
  float epsilon, scale;
  int rows, width, key_width, steps, rows_per_step;
  bool float_norm, float_grad, average, entropy, fixed_order;
};

// The shared memory of a CTA, in floats; P = T K places.
struct BackwardLayout {
  int dots, statistics, means, weights, grad_scores, rows, key_weight, key_bias, grad_key, queries, grad_tokens, keys, sums, shares, floats;

  __host__ __device__ explicit BackwardLayout(const BackwardParams& p) {
    const int places = rounded_up(p.steps * p.rows_per_step, 4), d = rounded_up(p.key_width, 4);
    dots = 0;                             // [P] float4: grad of w, sum of grad * weight, the same with x^
    statistics = dots + 4 * places;       // [P] float2
    means = statistics + 2 * places;      // [P] float2: the two means of the norm's gradient
    weights = means + 2 * places;         // [P]
    grad_scores = weights + places;       // [P]
    rows = grad_scores + places;          // [P] int: row of the bank or -1
    key_weight = rows + places;           // [d]
    key_bias = key_weight + d;            // [d]
    grad_key = key_bias + d;              // [d] gradient of the query's key features
    queries = grad_key + d;               // [T, d] before each step
    grad_tokens = queries + p.steps * d;  // [T, d] what later queries add to the gradient of each token
    keys = grad_tokens + p.steps * d;     // [P, d] x^ of the key features
    sums = keys + places * d;             // [2, threads]
    shares = sums + 2 * kThreads;         // [warps, 32]
    floats = shares + kWarps * kWarp;
  }
};

template <class T>
__device__ __forceinline__ float grad_token_at(const BackwardParams& p, int64_t i) {
  if (p.grad_tokens == nullptr) return 0;
  return p.float_grad ? static_cast<const float*>(p.grad_tokens)[i] : static_cast<float>(static_cast<const T*>(p.grad_tokens)[i]);
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1) read_tapes_backward(const __grid_constant__ BackwardParams p) {
  extern __shared__ __align__(16) float memory[];
  __shared__ float2 query_statistics, query_means;
  __shared__ float dot_of[kMaxRowsPerStep];
  cg::cluster_group cluster = cg::this_cluster();
  const int ranks = cluster.num_blocks(), rank = cluster.block_rank();
  const int b = blockIdx.x / ranks, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int K = p.rows_per_step, d = p.key_width, key_stride = rounded_up(d, 4), places = p.steps * K;
  const BackwardLayout layout(p);
  float4* const dots = reinterpret_cast<float4*>(memory + layout.dots);
  float2* const statistics = reinterpret_cast<float2*>(memory + layout.statistics);
  float2* const means = reinterpret_cast<float2*>(memory + layout.means);
  float* const weights = memory + layout.weights;
  float* const grad_scores = memory + layout.grad_scores;
  int* const rows = reinterpret_cast<int*>(memory + layout.rows);
  float* const key_weight = memory + layout.key_weight;
  float* const key_bias = memory + layout.key_bias;
  float* const grad_key = memory + layout.grad_key;
  float* const queries = memory + layout.queries;
  float* const grad_of_tokens = memory + layout.grad_tokens;
  float* const keys = memory + layout.keys;
  float* const sums = memory + layout.sums;

  const T* const bank = static_cast<const T*>(p.bank);
  const T* const query = static_cast<const T*>(p.query) + static_cast<int64_t>(b) * p.width;
  const bool packed = p.offsets != nullptr;
  const int64_t first = packed ? clamped(p.offsets[b], 0, p.rows) : 0;
  const int64_t count = (packed ? clamped(p.offsets[b + 1], first, p.rows) : p.rows) - first;
  const int taken = static_cast<int>(clamped(p.lengths[b], 0, p.steps));
  const int64_t of_places = static_cast<int64_t>(b) * places, of_tokens = static_cast<int64_t>(b) * p.steps * p.width;

  cluster_arrive(ranks);  // the others have started: waited for before their memory is written
  for (int i = threadIdx.x; i < places; i += kThreads) {
    const int64_t index = i / K < taken ? p.indices[of_places + i] : -1;
    const bool read = index >= 0 && index < count;
    rows[i] = read ? static_cast<int>(first + index) : -1;
    weights[i] = read ? p.weights[of_places + i] : 0.0f;
    grad_scores[i] = 0;
  }
  for (int f = threadIdx.x; f < d; f += kThreads) {
    key_weight[f] = load_norm<T>(p.weight, p.float_norm, f);
    key_bias[f] = load_norm<T>(p.bias, p.float_norm, f);
    grad_key[f] = 0;
  }
  for (int i = threadIdx.x; i < p.steps * key_stride; i += kThreads) queries[i] = 0, grad_of_tokens[i] = 0;
  __syncthreads();
  cluster_wait(ranks);

  // Statistics of the rows read, and the sums of each with the gradient of its token, to every CTA.
  for (int i = warp * ranks + rank; i < places; i += kWarps * ranks) {
    if (rows[i] < 0) continue;
    const T* const row = bank + rows[i] * p.bank_stride;
    const int64_t of_token = of_tokens + static_cast<int64_t>(i / K) * p.width;
    const float2 norm = row_norm(row, p.width, p.epsilon, lane);
    float with_bias = 0, with_weight = 0, with_scaled = 0;
    if (p.grad_tokens != nullptr) {
#pragma unroll 8
      for (int f = lane; f < p.width; f += kWarp) {
        const float grad = grad_token_at<T>(p, of_token + f);
        const float scaled = (static_cast<float>(row[f]) - norm.x) * norm.y;
        const float weighted = grad * load_norm<T>(p.weight, p.float_norm, f);
        with_bias = fmaf(grad, load_norm<T>(p.bias, p.float_norm, f), with_bias);
        with_weight += weighted;
        with_scaled = fmaf(weighted, scaled, with_scaled);
      }
      with_bias = warp_sum(with_bias), with_weight = warp_sum(with_weight), with_scaled = warp_sum(with_scaled);
    }
    if (lane < ranks) {
      cluster.map_shared_rank(statistics, lane)[i] = norm;
      cluster.map_shared_rank(dots, lane)[i] = make_float4(with_bias + with_scaled, with_weight, with_scaled, 0);
    }
  }
  if (warp == kWarps - 1) {
    const float2 norm = row_norm(query, p.width, p.epsilon, lane);
    if (lane == 0) query_statistics = norm;
  }
  cluster_arrive(ranks);
  cluster_wait(ranks);

  if (!p.fixed_order) {
    for (int i = threadIdx.x; i < places * key_stride; i += kThreads) {
      const int place = i / key_stride, f = i % key_stride, row = rows[place];
      keys[i] = row >= 0 && f < d ? (static_cast<float>(bank[row * p.bank_stride + f]) - statistics[place].x) * statistics[place].y : 0.0f;
    }
    __syncthreads();
    // The queries again, first to last.
    for (int f = threadIdx.x; f < d; f += kThreads) {
      float q = fmaf((static_cast<float>(query[f]) - query_statistics.x) * query_statistics.y, key_weight[f], key_bias[f]);
      if (p.query_offset != nullptr) q += p.query_offset[static_cast<int64_t>(b) * d + f];
      for (int t = 0; t < taken; ++t) {
        queries[t * key_stride + f] = q;
        float merged = 0;
        for (int i = t * K; i < (t + 1) * K; ++i) {
          if (rows[i] >= 0) merged = fmaf(weights[i], fmaf(keys[i * key_stride + f], key_weight[f], key_bias[f]), merged);
        }
        q = p.average ? (q + merged) / 2 : merged;
      }
    }
    __syncthreads();

    const float passed = p.average ? 0.5f : 1.0f;  // of the query's gradient to the token, and with "average" to the query before
    const float grad_ponder = p.grad_ponder != nullptr ? p.grad_ponder[b] : 0.0f;
    for (int t = taken - 1; t >= 0; --t) {
      for (int k = warp; k < K; k += kWarps) {
        const float* const key = keys + (t * K + k) * key_stride;
        float dot = 0;
        if (rows[t * K + k] >= 0) {
          for (int f = lane; f < d; f += kWarp) dot = fmaf(fmaf(key[f], key_weight[f], key_bias[f]), grad_key[f], dot);
        }
        dot = warp_sum(dot);
        if (lane == 0) dot_of[k] = dot;
      }
      __syncthreads();
      if (warp * kWarp < d) {
        const int place = t * K + lane;
        const bool read = lane < K && rows[place] >= 0;
        float w = 0, grad_w = 0;
        if (read) {
          w = weights[place];
          grad_w = fmaf(passed, dot_of[lane], dots[place].x);
          if (p.grad_weights != nullptr) grad_w += p.grad_weights[of_places + place];
          if (p.entropy) {
            grad_w -= 2 * w * grad_ponder;
          } else if (lane == 0) {
            grad_w -= grad_ponder;
          }
        }
        const float inner = warp_sum(w * grad_w), grad_score = read ? w * (grad_w - inner) * p.scale : 0.0f;
        float* const share = memory + layout.shares + warp * kWarp;
        share[lane] = grad_score;
        if (warp == 0 && lane < K) grad_scores[place] = grad_score;
        __syncwarp();
        for (int f = threadIdx.x; f < d; f += kThreads) {
          const float grad = grad_key[f];
          float from_scores = 0;
          for (int k = 0; k < K; ++k) {
            const int i = t * K + k;
            if (rows[i] >= 0) from_scores = fmaf(share[k], fmaf(keys[i * key_stride + f], key_weight[f], key_bias[f]), from_scores);
          }
          grad_of_tokens[t * key_stride + f] = passed * grad;
          grad_key[f] = from_scores + (p.average ? 0.5f * grad : 0.0f);
        }
      }
      __syncthreads();
    }
  }

  // What the norm's gradient needs of each row: the means of grad * weight and of that with x^. Beyond the key features they are sums that
  // are there already, times the weight of the row.
  const float width = static_cast<float>(p.width);
  for (int i = warp; i < places; i += kWarps) {
    if (rows[i] < 0) continue;
    const int t = i / K;
    float sum = 0, sum_scaled = 0;
    if (!p.fixed_order) {
      for (int f = lane; f < d; f += kWarp) {
        const float grad =
            fmaf(weights[i], grad_of_tokens[t * key_stride + f], grad_scores[i] * queries[t * key_stride + f]) * key_weight[f];
        sum += grad;
        sum_scaled = fmaf(grad, keys[i * key_stride + f], sum_scaled);
      }
    }
    sum = warp_sum(sum), sum_scaled = warp_sum(sum_scaled);
    if (lane == 0) means[i] = make_float2(fmaf(weights[i], dots[i].y, sum) / width, fmaf(weights[i], dots[i].z, sum_scaled) / width);
  }
  if (warp == kWarps - 1) {
    float sum = 0, sum_scaled = 0;
    for (int f = lane; f < d; f += kWarp) {
      const float grad = grad_key[f] * key_weight[f];
      sum += grad;
      sum_scaled = fmaf(grad, (static_cast<float>(query[f]) - query_statistics.x) * query_statistics.y, sum_scaled);
    }
    sum = warp_sum(sum), sum_scaled = warp_sum(sum_scaled);
    if (lane == 0) query_means = make_float2(sum / width, sum_scaled / width);
  }
  if (p.row_of != nullptr && rank == 0) {  // places without a row add zeros, each to another row, so that none is added to often
    for (int i = threadIdx.x; i < places; i += kThreads) p.row_of[of_places + i] = rows[i] >= 0 ? rows[i] : (of_places + i) % p.rows;
  }
  __syncthreads();

  // A thread a column of this CTA's; with few columns, groups of threads share the rows and their sums are added at the end.
  const int columns = rounded_up((p.width + ranks - 1) / ranks, kWarp), groups = columns < kThreads ? kThreads / columns : 1;
  const int group = columns < kThreads ? threadIdx.x / columns : 0;
  const int begin = rank * columns, end = min(begin + columns, p.width);
  for (int block = begin; block < end; block += kThreads) {
    const int f = block + (columns < kThreads ? threadIdx.x % columns : threadIdx.x);
    float grad_weight = 0, grad_bias = 0;
    if (f < end && group < groups) {
      const float weight = load_norm<T>(p.weight, p.float_norm, f);
#pragma unroll 4
      for (int i = group; i < places; i += groups) {
        const int row = rows[i], t = i / K;
        float result = 0;
        if (row >= 0) {
          const float scaled = (static_cast<float>(bank[row * p.bank_stride + f]) - statistics[i].x) * statistics[i].y;
          float grad = weights[i] * grad_token_at<T>(p, of_tokens + static_cast<int64_t>(t) * p.width + f);
          if (f < d) grad += fmaf(weights[i], grad_of_tokens[t * key_stride + f], grad_scores[i] * queries[t * key_stride + f]);
          grad_weight = fmaf(grad, scaled, grad_weight);
          grad_bias += grad;
          result = statistics[i].y * (grad * weight - means[i].x - scaled * means[i].y);
          if (packed) static_cast<T*>(p.grad_bank)[static_cast<int64_t>(row) * p.width + f] = static_cast<T>(result);
        }
        if (!packed) p.grad_rows[(of_places + i) * p.width + f] = result;
      }
      if (group == 0) {
        const float scaled = (static_cast<float>(query[f]) - query_statistics.x) * query_statistics.y, grad = f < d ? grad_key[f] : 0.0f;
        grad_weight = fmaf(grad, scaled, grad_weight);
        grad_bias += grad;
        static_cast<T*>(p.grad_query)[static_cast<int64_t>(b) * p.width + f] =
            static_cast<T>(query_statistics.y * (grad * weight - query_means.x - scaled * query_means.y));
      }
    }
    if (groups > 1) {
      sums[threadIdx.x] = grad_weight, sums[kThreads + threadIdx.x] = grad_bias;
      __syncthreads();
      if (group == 0) {
        for (int g = 1; g < groups; ++g) {
          grad_weight += sums[g * columns + threadIdx.x];
          grad_bias += sums[kThreads + g * columns + threadIdx.x];
        }
      }
    }
    if (group == 0 && f < end) {
      p.grad_norm[static_cast<int64_t>(2 * b) * p.width + f] = grad_weight;
      p.grad_norm[static_cast<int64_t>(2 * b + 1) * p.width + f] = grad_bias;
    }
  }
}

template <class T>
void launch(const BackwardParams& p, int64_t batch, int ranks) {
  const int bytes = BackwardLayout(p).floats * 4;
  C10_CUDA_CHECK(cudaFuncSetAttribute(read_tapes_backward<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(ranks), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(batch * ranks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = c10::cuda::getCurrentCUDAStream();
  config.attrs = &attribute;
  config.numAttrs = 1;
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, read_tapes_backward<T>, p));
}

}  // namespace
}  // namespace cuda

TapeReadGradients tape_read_backward_cuda(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  const c10::cuda::OptionalCUDAGuard guard(inputs.query.device());
  const int64_t batch = inputs.weights.size(0), steps = inputs.weights.size(1), rows_per_step = inputs.weights.size(2);
  const int64_t bank_rows = inputs.bank.size(0), width = inputs.bank.size(1);
  const at::ScalarType type = inputs.bank.scalar_type();
  cuda::BackwardParams p{};
  p.rows = static_cast<int>(bank_rows), p.width = static_cast<int>(width), p.key_width = static_cast<int>(options.key_width);
  p.steps = static_cast<int>(steps), p.rows_per_step = static_cast<int>(rows_per_step);
  // Keys of all rows read are held in shared memory: checked in wide integers before the layout is made of narrow ones.
  const bool serves = batch > 0 && bank_rows > 0 &&
                      cuda::serves(inputs.bank, inputs.norm_weight, inputs.norm_bias, options.key_width, steps, rows_per_step, batch) &&
                      int64_t{cuda::BackwardLayout(p).floats} * 4 + 1024 <= cuda::device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  if (!serves) {
    if (batch > 0 && bank_rows > 0) cuda::record_limits();
    return tape_read_backward_reference(inputs, options);
  }

  const at::TensorOptions plain = inputs.bank.options(), real = plain.dtype(at::kFloat);
  const bool packed = inputs.bank_offsets.has_value();
  const at::Tensor query = inputs.query.contiguous(), norm_weight = inputs.norm_weight.contiguous();
  const at::Tensor bank = inputs.bank.stride(1) == 1 || width == 1 ? inputs.bank : inputs.bank.contiguous();
  const at::Tensor norm_bias = inputs.norm_bias.contiguous(), indices = inputs.indices.contiguous(), lengths = inputs.lengths.contiguous();
  const at::Tensor offsets = packed ? inputs.bank_offsets->contiguous() : at::Tensor();
  const at::Tensor weights = inputs.weights.to(at::kFloat).contiguous();
  auto as_float = [](const std::optional<at::Tensor>& tensor) { return tensor ? tensor->to(at::kFloat).contiguous() : at::Tensor(); };
  const at::Tensor grad_weights = as_float(inputs.grad_weights), grad_ponder = as_float(inputs.grad_ponder);
  const at::Tensor query_offset = as_float(inputs.query_offset);
  at::Tensor grad_tokens;
  if (inputs.grad_tokens)
    grad_tokens = (inputs.grad_tokens->scalar_type() == type ? *inputs.grad_tokens : inputs.grad_tokens->to(at::kFloat)).contiguous();

  const int64_t places = batch * steps * rows_per_step;
  const at::Tensor grad_query = at::empty({batch, width}, plain), grad_norm = at::empty({batch, 2, width}, real);
  at::Tensor grad_bank = at::zeros({bank_rows, width}, packed ? plain : real);
  const at::Tensor grad_rows = packed ? at::Tensor() : at::empty({places, width}, real);
  const at::Tensor row_of = packed ? at::Tensor() : at::empty({places}, plain.dtype(at::kLong));

  auto floats = [](const at::Tensor& tensor) { return tensor.defined() ? tensor.const_data_ptr<float>() : nullptr; };
  p.query = query.const_data_ptr(), p.bank = bank.const_data_ptr(), p.bank_stride = bank.stride(0);
  p.weight = norm_weight.const_data_ptr(), p.bias = norm_bias.const_data_ptr();
  p.grad_tokens = grad_tokens.defined() ? grad_tokens.const_data_ptr() : nullptr;
  p.float_grad = grad_tokens.defined() && grad_tokens.scalar_type() == at::kFloat;
  p.offsets = packed ? offsets.const_data_ptr<int64_t>() : nullptr;
  p.indices = indices.const_data_ptr<int64_t>(), p.lengths = lengths.const_data_ptr<int64_t>();
  p.weights = floats(weights), p.grad_weights = floats(grad_weights), p.grad_ponder = floats(grad_ponder);
  p.query_offset = floats(query_offset);
  p.grad_query = grad_query.mutable_data_ptr(), p.grad_bank = grad_bank.mutable_data_ptr();
  p.grad_rows = packed ? nullptr : grad_rows.mutable_data_ptr<float>(), p.row_of = packed ? nullptr : row_of.mutable_data_ptr<int64_t>();
  p.grad_norm = grad_norm.mutable_data_ptr<float>();
  p.epsilon = static_cast<float>(options.norm_epsilon);
  p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(options.key_width)));
  p.float_norm = norm_weight.scalar_type() == at::kFloat;
  p.average = options.query_update == "average", p.entropy = options.ponder == "entropy", p.fixed_order = options.fixed_order;

  int ranks = 1;
  const int processors = cuda::device_attribute(cudaDevAttrMultiProcessorCount);
  while (2 * ranks <= cuda::kMaxRanks && 2 * ranks * batch <= processors && width >= 2 * ranks * cuda::kWarp) ranks *= 2;
  if (type == at::kFloat) {
    cuda::launch<float>(p, batch, ranks);
  } else if (type == at::kHalf) {
    cuda::launch<c10::Half>(p, batch, ranks);
  } else {
    cuda::launch<c10::BFloat16>(p, batch, ranks);
  }

  if (!packed && places > 0) {
    c10::List<std::optional<at::Tensor>> at_rows;
    at_rows.push_back(row_of);
    at::index_put_(grad_bank, at_rows, grad_rows, /*accumulate=*/true);  // sorts: a fixed order
  }
  grad_bank = grad_bank.to(type);
  const at::Tensor of_norm = grad_norm.sum(0);
  return {grad_query, grad_bank, of_norm.select(0, 0).to(norm_weight.scalar_type()), of_norm.select(0, 1).to(norm_bias.scalar_type())};
}

}  // namespace adatape::ops
