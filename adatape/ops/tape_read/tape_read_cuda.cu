// adatape::tape_read on CUDA (sm_90), forward, for float, half and bfloat16 banks. One launch reads a packed bank: a cluster of CTAs an
// example streams its rows once, keeps keys in shared memory, and takes the steps there with one barrier of the cluster a step. The D-wide
// tokens are merged after the last step, since a query needs the d key features alone. A shared bank's keys are prepared by a launch of
// their own. Nothing waits for the device: offsets and limits are clamped there instead of checked.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "adatape/ops/tape_read/tape_read_cuda.cuh"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {
namespace cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kListsPerLane = kMaxRanks * kWarps / kWarp;  // candidate lists of a cluster, spread over the lanes of a warp
constexpr int kTokenRows = 5;                              // rows of a token in flight

struct ForwardParams {
  const void *query, *bank, *weight, *bias;
  int64_t query_stride, bank_stride;
  const int64_t *offsets, *limits;
  const float* query_offset;
  const double* thresholds;
  const bool* mask;
  float* keys;               // [rows, key_stride]: of a shared bank, and of packed rows beyond the capacity of shared memory
  float2* statistics;        // [rows] mean and 1 / sigma
  unsigned* encoded;         // scores and availability of rows beyond the capacity
  unsigned char* available;  // packed: [rows], shared: [B, rows]
  void* tokens;
  float *weights, *ponder, *halting;
  int64_t *indices, *lengths;
  double threshold;
  float epsilon, scale;
  int rows, width, key_width, key_stride, steps, rows_per_step, capacity;
  bool float_norm, average, entropy;
};

// Where things lie in the shared memory of a CTA, in bytes. The bytes of a row come last.
struct ForwardLayout {
  int bias, query, candidates, chosen, weights, halting, keys, encoded, available, bytes;

  __host__ __device__ ForwardLayout(const ForwardParams& p, int ranks) {
    const int key_bytes = p.key_stride * 4, places = rounded_up(p.steps * p.rows_per_step * 4, 16);
    bias = key_bytes;
    query = bias + key_bytes;
    candidates = query + key_bytes;
    chosen = candidates + 2 * ranks * kWarps * p.rows_per_step * 8;
    weights = chosen + places;
    halting = weights + places;
    keys = halting + rounded_up(p.steps * 4, 16);
    encoded = keys + p.capacity * key_bytes;
    available = encoded + p.capacity * 4;
    bytes = available + p.capacity;
  }
};

// Orders scores as unsigned integers: unavailable 0, then NaN, then numbers; -0 as +0.
constexpr unsigned kUnavailable = 0, kNaN = 1;

__device__ __forceinline__ unsigned encode(float score) {
  if (isnan(score)) return kNaN;
  const unsigned bits = __float_as_uint(score == 0 ? 0.0f : score);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float decode(unsigned encoded) {
  if (encoded == kNaN) return __uint_as_float(0x7fc00000u);
  return __uint_as_float(encoded & 0x80000000u ? encoded & 0x7fffffffu : ~encoded);
}

// Every row takes these very operations, so that identical rows score identical bits.
__device__ __forceinline__ float score_of(const float* query, const float* key, int key_width) {
  float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 8
  for (int f = 0; f < key_width; f += 4) {
    const float4 q = *reinterpret_cast<const float4*>(query + f), k = *reinterpret_cast<const float4*>(key + f);
    sum.x = __fmaf_rn(q.x, k.x, sum.x), sum.y = __fmaf_rn(q.y, k.y, sum.y);
    sum.z = __fmaf_rn(q.z, k.z, sum.z), sum.w = __fmaf_rn(q.w, k.w, sum.w);
  }
  return __fadd_rn(__fadd_rn(sum.x, sum.y), __fadd_rn(sum.z, sum.w));
}

__device__ __forceinline__ float normalised(float value, float2 statistics, float weight, float bias) {
  return __fmaf_rn(__fmul_rn(__fsub_rn(value, statistics.x), statistics.y), weight, bias);
}

// Statistics and keys of rows 0 .. count - 1, a warp for one or several rows at a time; and, as row `count`, the key of `extra` if that is
// there (the query, which then travels together with the rows). weight and bias [key_stride] lie in shared memory, zero from key_width on,
// and may be written up to the barrier in here, which every thread of the CTA passes once.
// kVectors: 16-byte loads a lane that hold a row in registers; 0 where rows are wider or not aligned.
template <class T, int kVectors, class KeyOf>
__device__ __forceinline__ void prepare_rows(const T* rows, int64_t stride, int count, const T* extra, const ForwardParams& p,
                                             const float* weight, const float* bias, float2* statistics, const KeyOf& key_of) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, total = count + (extra != nullptr);
  const float width = static_cast<float>(p.width);
  auto row_at = [&](int r) { return r < count ? rows + r * stride : extra; };
  if constexpr (kVectors == 0) {
    __syncthreads();
    for (int r = warp; r < total; r += kWarps) {
      const T* const row = row_at(r);
      const float2 norm = row_norm(row, p.width, p.epsilon, lane);
      if (lane == 0 && r < count) statistics[r] = norm;
      float* const key = key_of(r);
      for (int f = lane; f < p.key_stride; f += kWarp)
        key[f] = f < p.key_width ? normalised(static_cast<float>(row[f]), norm, weight[f], bias[f]) : 0.0f;
    }
  } else {
    constexpr int kCount = Pack<T>::kCount;
    constexpr int kRows = kVectors == 1 ? 4 : kVectors <= 3 ? 2 : 1;  // side by side: their sums hide each other's latency
    const int vectors = p.width / kCount;
    uint4 raw[kRows][kVectors];
    // A last group that is not full repeats its last row.
    auto load = [&](int group) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const uint4* const from = reinterpret_cast<const uint4*>(row_at(min(group * kRows + r, total - 1)));
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          const int vector = v * kWarp + lane;
          raw[r][v] = vector < vectors ? load_stream(from + vector) : make_uint4(0, 0, 0, 0);
        }
      }
    };
    const int groups = (total + kRows - 1) / kRows;
    if (warp < groups) load(warp);
    __syncthreads();
    for (int group = warp; group < groups; group += kWarps) {
      uint4 held[kRows][kVectors];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int v = 0; v < kVectors; ++v) held[r][v] = raw[r][v];
      }
      if (group + kWarps < groups) load(group + kWarps);  // on its way while this group is summed
      float2 norm[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float sum = 0;
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          float values[kCount];
          Pack<T>::unpack(held[r][v], values);
#pragma unroll
          for (int i = 0; i < kCount; ++i) sum = __fadd_rn(sum, values[i]);
        }
        norm[r].x = sum;
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) norm[r].x = warp_sum(norm[r].x) / width;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float squares = 0;
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          float values[kCount];
          Pack<T>::unpack(held[r][v], values);
          const bool inside = v * kWarp + lane < vectors;
#pragma unroll
          for (int i = 0; i < kCount; ++i) {
            const float centred = inside ? __fsub_rn(values[i], norm[r].x) : 0.0f;
            squares = __fmaf_rn(centred, centred, squares);
          }
        }
        norm[r].y = squares;
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) norm[r].y = rsqrtf(warp_sum(norm[r].y) / width + p.epsilon);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const int place = group * kRows + r;
        if (place >= total) break;
        if (lane == 0 && place < count) statistics[place] = norm[r];
        float* const key = key_of(place);
#pragma unroll
        for (int v = 0; v < kVectors; ++v) {
          const int first = (v * kWarp + lane) * kCount;
          if (first >= p.key_width) continue;
          float values[kCount];
          Pack<T>::unpack(held[r][v], values);
#pragma unroll
          for (int i = 0; i < kCount; i += 4) {
            const int f = first + i;
            if (f >= p.key_width) continue;
            const float4 w = *reinterpret_cast<const float4*>(weight + f), b = *reinterpret_cast<const float4*>(bias + f);
            float4 k;
            k.x = normalised(values[i], norm[r], w.x, b.x);
            k.y = f + 1 < p.key_width ? normalised(values[i + 1], norm[r], w.y, b.y) : 0.0f;
            k.z = f + 2 < p.key_width ? normalised(values[i + 2], norm[r], w.z, b.z) : 0.0f;
            k.w = f + 3 < p.key_width ? normalised(values[i + 3], norm[r], w.w, b.w) : 0.0f;
            *reinterpret_cast<float4*>(key + f) = k;
          }
        }
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void load_key_norm(const ForwardParams& p, float* weight, float* bias) {
  for (int f = threadIdx.x; f < p.key_stride; f += blockDim.x) {
    weight[f] = f < p.key_width ? load_norm<T>(p.weight, p.float_norm, f) : 0.0f;
    bias[f] = f < p.key_width ? load_norm<T>(p.bias, p.float_norm, f) : 0.0f;
  }
}

// Keys and statistics of a shared bank, into global memory.
template <class T, int kVectors>
__global__ void __launch_bounds__(kThreads, 1) prepare_shared_bank(const __grid_constant__ ForwardParams p) {
  extern __shared__ __align__(16) unsigned char memory[];
  float* const weight = reinterpret_cast<float*>(memory);
  float* const bias = weight + p.key_stride;
  load_key_norm<T>(p, weight, bias);
  const int share = (p.rows + gridDim.x - 1) / gridDim.x;
  const int begin = min(static_cast<int>(blockIdx.x) * share, p.rows), count = min(share, p.rows - begin);
  prepare_rows<T, kVectors>(static_cast<const T*>(p.bank) + begin * p.bank_stride, p.bank_stride, count, nullptr, p, weight, bias,
                            p.statistics + begin, [&](int r) { return p.keys + static_cast<int64_t>(begin + r) * p.key_stride; });
}

// Merged rows of all steps, by all warps of the cluster; zeros after the last step.
template <class T, bool kAligned>
__device__ __forceinline__ void write_tokens(const ForwardParams& p, const T* rows, const float2* statistics, const int* chosen,
                                             const float* weights, int taken, T* tokens, int warp, int warps) {
  constexpr int kCount = kAligned ? Pack<T>::kCount : 1;
  const int lane = threadIdx.x % kWarp;
  const int blocks = (p.width + kWarp * kCount - 1) / (kWarp * kCount);
  for (int item = warp; item < p.steps * blocks; item += warps) {
    const int t = item / blocks, f = (item % blocks * kWarp + lane) * kCount;
    if (f >= p.width) continue;
    float sums[kCount] = {}, total = 0;
    if (t < taken) {
      for (int k = 0; k < p.rows_per_step; k += kTokenRows) {
        uint4 raw[kTokenRows];
        float2 norm[kTokenRows];
        float w[kTokenRows];
#pragma unroll
        for (int i = 0; i < kTokenRows; ++i) {
          const int place = t * p.rows_per_step + k + i;
          const int row = k + i < p.rows_per_step ? chosen[place] : -1;
          norm[i] = make_float2(0, 0), w[i] = 0, raw[i] = make_uint4(0, 0, 0, 0);
          if (row < 0) continue;
          const T* const from = rows + row * p.bank_stride + f;
          if constexpr (kAligned) {
            raw[i] = __ldg(reinterpret_cast<const uint4*>(from));
          } else {
            raw[i].x = __float_as_uint(static_cast<float>(*from));
          }
          norm[i] = statistics[row];
          w[i] = weights[place];
        }
#pragma unroll
        for (int i = 0; i < kTokenRows; ++i) {  // a row that is not there adds zeros
          float values[kCount];
          if constexpr (kAligned) {
            Pack<T>::unpack(raw[i], values);
          } else {
            values[0] = __uint_as_float(raw[i].x);
          }
          const float factor = w[i] * norm[i].y;
          total += w[i];
#pragma unroll
          for (int j = 0; j < kCount; ++j) sums[j] = fmaf(values[j] - norm[i].x, factor, sums[j]);
        }
      }
#pragma unroll
      for (int j = 0; j < kCount; ++j)
        sums[j] = fmaf(sums[j], load_norm<T>(p.weight, p.float_norm, f + j), load_norm<T>(p.bias, p.float_norm, f + j) * total);
    }
    T* const to = tokens + static_cast<int64_t>(t) * p.width + f;
    if constexpr (kAligned) {
      Packed<T> packed;
#pragma unroll
      for (int j = 0; j < kCount; ++j) packed.values[j] = static_cast<T>(sums[j]);
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(&packed);
    } else {
      *to = static_cast<T>(sums[0]);
    }
  }
}

template <class T, int kVectors>
__global__ void __launch_bounds__(kThreads, 1) read_tapes(const __grid_constant__ ForwardParams p) {
  extern __shared__ __align__(16) unsigned char memory[];
  __shared__ int rows_left;
  __shared__ bool halted;
  cg::cluster_group cluster = cg::this_cluster();
  const int ranks = cluster.num_blocks(), rank = cluster.block_rank();
  const int b = blockIdx.x / ranks, warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int K = p.rows_per_step, key_stride = p.key_stride;
  const ForwardLayout layout(p, ranks);
  float* const key_weight = reinterpret_cast<float*>(memory);
  float* const key_bias = reinterpret_cast<float*>(memory + layout.bias);
  float* const query = reinterpret_cast<float*>(memory + layout.query);
  uint2* const candidates = reinterpret_cast<uint2*>(memory + layout.candidates);
  int* const chosen = reinterpret_cast<int*>(memory + layout.chosen);
  float* const weights = reinterpret_cast<float*>(memory + layout.weights);
  float* const halting = reinterpret_cast<float*>(memory + layout.halting);
  float* const keys = reinterpret_cast<float*>(memory + layout.keys);
  unsigned* const near_encoded = reinterpret_cast<unsigned*>(memory + layout.encoded);
  unsigned char* const near_available = memory + layout.available;

  // This example's rows are first .. first + count - 1 of the bank; this CTA's begin .. begin + local - 1 of those.
  const bool packed = p.offsets != nullptr;
  const int64_t first = packed ? clamped(p.offsets[b], 0, p.rows) : 0;
  const int count = static_cast<int>((packed ? clamped(p.offsets[b + 1], first, p.rows) : p.rows) - first);
  const int limit = p.limits != nullptr ? static_cast<int>(clamped(p.limits[b], 0, p.steps)) : p.steps;
  const int share = (count + ranks - 1) / ranks, begin = min(rank * share, count), local = min(share, count - begin);
  const int64_t of_example = packed ? first : static_cast<int64_t>(b) * p.rows;  // in mask and availability
  const bool* const mask = p.mask != nullptr ? p.mask + of_example : nullptr;
  const double threshold = (p.thresholds != nullptr ? p.thresholds[b] : p.threshold) - 1e-5;
  const T* const rows = static_cast<const T*>(p.bank) + first * p.bank_stride;
  float2* const statistics = p.statistics + first;

  // Rows beyond the capacity live in global memory. Each row's score and availability belong to one thread.
  float* const far_keys = p.keys + first * key_stride;
  unsigned* const far_encoded = p.encoded + of_example + begin;
  unsigned char* const far_available = p.available + of_example + begin;
  auto encoded_at = [&](int r) -> unsigned& { return r < p.capacity ? near_encoded[r] : far_encoded[r]; };
  auto available_at = [&](int r) -> unsigned char& { return r < p.capacity ? near_available[r] : far_available[r]; };

  if (threadIdx.x == 0) rows_left = mask != nullptr ? 0 : count, halted = false;
  load_key_norm<T>(p, key_weight, key_bias);
  for (int i = threadIdx.x; i < p.steps * K; i += kThreads) chosen[i] = -1, weights[i] = 0;
  for (int i = threadIdx.x; i < p.steps; i += kThreads) halting[i] = 0;
  for (int r = threadIdx.x; r < local; r += kThreads) available_at(r) = mask == nullptr || mask[begin + r];

  const int prepared = packed && limit > 0 ? local : 0;
  prepare_rows<T, kVectors>(rows + begin * p.bank_stride, p.bank_stride, prepared, static_cast<const T*>(p.query) + b * p.query_stride, p,
                            key_weight, key_bias, statistics + begin, [&](int r) {
                              if (r == prepared) return query;
                              return (r < p.capacity ? keys : far_keys + static_cast<int64_t>(begin) * key_stride) +
                                     static_cast<int64_t>(r) * key_stride;
                            });
  if (!packed) {
    const float4* const from = reinterpret_cast<const float4*>(p.keys + static_cast<int64_t>(begin) * key_stride);
    const int copied = min(local, p.capacity) * (key_stride / 4);
    for (int i = threadIdx.x; i < copied; i += kThreads) reinterpret_cast<float4*>(keys)[i] = from[i];
  }
  if (mask != nullptr) {
    int existing = 0;
    for (int r = threadIdx.x; r < count; r += kThreads) existing += mask[r];
    existing = __reduce_add_sync(kAllLanes, existing);
    if (lane == 0 && existing > 0) atomicAdd(&rows_left, existing);
  }
  cluster_arrive(ranks);
  cluster_wait(ranks);
  if (p.query_offset != nullptr) {
    for (int f = threadIdx.x; f < p.key_width; f += kThreads) query[f] += p.query_offset[static_cast<int64_t>(b) * p.key_width + f];
    __syncthreads();
  }

  // Warps that have rows, in every CTA alike; a list of candidates for each.
  const int active = min(kWarps, (share + kWarp - 1) / kWarp), lists = ranks * active;
  const int key_end = rounded_up(p.key_width, 4);
  int left = rows_left, taken = 0;
  float h = 0, ponder = 0;  // of warp 0
  while (taken < limit && left > 0) {
    const int want = min(K, left);
    uint2* const buffer = candidates + (taken & 1) * ranks * kWarps * K;
    if (warp < active) {
      // Each thread's best row, then the warp's K best, best first: candidate i in lane i.
      unsigned best = kUnavailable;
      int best_row = 0;
      for (int r = threadIdx.x; r < local; r += kThreads) {
        unsigned encoded = kUnavailable;
        if (available_at(r) != 0) {
          const float score = r < p.capacity ? score_of(query, keys + r * key_stride, key_end)
                                             : score_of(query, far_keys + static_cast<int64_t>(begin + r) * key_stride, key_end);
          encoded = encode(score);
        }
        if (local > kThreads) encoded_at(r) = encoded;
        if (encoded > best) best = encoded, best_row = r;
      }
      uint2 candidate = make_uint2(kUnavailable, 0);
      for (int i = 0; i < want; ++i) {
        const unsigned highest = __reduce_max_sync(kAllLanes, best);
        if (highest == kUnavailable) break;
        const int row = static_cast<int>(__reduce_min_sync(kAllLanes, best == highest ? static_cast<unsigned>(best_row) : ~0u));
        if (lane == i) candidate = make_uint2(highest, static_cast<unsigned>(begin + row));
        if (best == highest && best_row == row) {
          best = kUnavailable;
          if (local > kThreads) {
            encoded_at(row) = kUnavailable;
            for (int r = threadIdx.x; r < local; r += kThreads) {
              const unsigned encoded = encoded_at(r);
              if (encoded > best) best = encoded, best_row = r;
            }
          }
        }
      }
      if (lane < K) {
        const int place = (rank * active + warp) * K + lane;
        for (int c = 0; c < ranks; ++c) cluster.map_shared_rank(buffer, c)[place] = candidate;
      }
    }
    cluster_arrive(ranks);
    cluster_wait(ranks);

    // Every CTA picks the same rows and holds the same query: warp 0 merges the lists, row i of the step in lane i.
    if (warp == 0) {
      unsigned head[kListsPerLane], head_row[kListsPerLane];
      int next[kListsPerLane];
#pragma unroll
      for (int q = 0; q < kListsPerLane; ++q) {
        const int list = q * kWarp + lane;
        const uint2 candidate = list < lists ? buffer[list * K] : make_uint2(kUnavailable, 0);
        head[q] = candidate.x, head_row[q] = candidate.y, next[q] = 1;
      }
      unsigned my_score = kNaN;
      int my_row = -1;
      for (int i = 0; i < want; ++i) {
        unsigned best = head[0], best_row = head_row[0];
#pragma unroll
        for (int q = 1; q < kListsPerLane; ++q) {
          if (head[q] > best || (head[q] == best && head_row[q] < best_row)) best = head[q], best_row = head_row[q];
        }
        const unsigned highest = __reduce_max_sync(kAllLanes, best);
        if (highest == kUnavailable) break;
        const unsigned row = __reduce_min_sync(kAllLanes, best == highest ? best_row : ~0u);
        if (lane == i) my_score = highest, my_row = static_cast<int>(row);
#pragma unroll
        for (int q = 0; q < kListsPerLane; ++q) {
          if (head[q] != highest || head_row[q] != row) continue;
          const uint2 candidate = next[q] < K ? buffer[(q * kWarp + lane) * K + next[q]] : make_uint2(kUnavailable, 0);
          head[q] = candidate.x, head_row[q] = candidate.y, ++next[q];
        }
      }
      const bool reads = my_row >= 0;
      const float score = decode(my_score), top = __shfl_sync(kAllLanes, score, 0);
      const float power = reads ? expf((score - top) * p.scale) : 0.0f;
      const float total = warp_sum(power), w = reads ? power / total : 0.0f;
      const float squares = warp_sum(w * w), highest_weight = __shfl_sync(kAllLanes, w, 0);
      ponder += 1 - (p.entropy ? squares : highest_weight);
      h += highest_weight;
      const float* my_key = nullptr;
      if (reads) {
        chosen[taken * K + lane] = my_row;
        weights[taken * K + lane] = w;
        const int owner = my_row / share, r = my_row % share;
        my_key =
            r < p.capacity ? cluster.map_shared_rank(keys, owner) + r * key_stride : far_keys + static_cast<int64_t>(my_row) * key_stride;
        if (owner == rank) available_at(r) = 0;
      }
      for (int block = 0; block < key_end; block += kWarp) {
        const int f = block + lane;
        float merged = 0;
#pragma unroll 5
        for (int i = 0; i < want; ++i) {
          const float* const key = reinterpret_cast<const float*>(__shfl_sync(kAllLanes, reinterpret_cast<unsigned long long>(my_key), i));
          const float weight = __shfl_sync(kAllLanes, w, i);
          if (f < p.key_width) merged = fmaf(weight, key[f], merged);
        }
        if (f < p.key_width) query[f] = p.average ? (query[f] + merged) / 2 : merged;
      }
      if (lane == 0) {
        halting[taken] = h;
        halted = static_cast<double>(h) >= threshold;
      }
    }
    __syncthreads();
    ++taken;
    left -= want;
    if (halted) break;
  }
  cluster_arrive(ranks);  // no CTA leaves while another may read its keys: the wait is at the end

  const int64_t places = static_cast<int64_t>(p.steps) * K;
  if (rank == 0) {
    for (int i = threadIdx.x; i < places; i += kThreads) {
      p.indices[b * places + i] = chosen[i];
      p.weights[b * places + i] = weights[i];
    }
    for (int t = threadIdx.x; t < p.steps; t += kThreads) p.halting[static_cast<int64_t>(b) * p.steps + t] = halting[t];
    if (threadIdx.x == 0) p.lengths[b] = taken, p.ponder[b] = ponder;
  }
  write_tokens<T, (kVectors > 0)>(p, rows, statistics, chosen, weights, taken,
                                  static_cast<T*>(p.tokens) + static_cast<int64_t>(b) * p.steps * p.width, warp * ranks + rank,
                                  kWarps * ranks);
  cluster_wait(ranks);
}

// Keys are read 16 bytes at a time by 8 threads at once, each its own row: an odd number of 16-byte units a row keeps them on different
// banks.
int key_stride_of(int64_t key_width) {
  const int units = static_cast<int>((key_width + 3) / 4);
  return (units | 1) * 4;
}

template <class T, int kVectors>
void launch(ForwardParams p, int64_t batch, int ranks) {
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream();
  if (p.offsets == nullptr && p.rows > 0) {
    const int ctas = std::min(device_attribute(cudaDevAttrMultiProcessorCount), (p.rows + kWarps - 1) / kWarps);
    prepare_shared_bank<T, kVectors><<<ctas, kThreads, p.key_stride * 8, stream>>>(p);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  const int bytes = ForwardLayout(p, ranks).bytes;
  C10_CUDA_CHECK(cudaFuncSetAttribute(read_tapes<T, kVectors>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {static_cast<unsigned>(ranks), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(batch * ranks));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = static_cast<size_t>(bytes);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, read_tapes<T, kVectors>, p));
}

template <class T>
void launch_for(const ForwardParams& p, int64_t batch, int ranks) {
  constexpr int kCount = Pack<T>::kCount;
  const bool aligned = p.width % kCount == 0 && p.bank_stride % kCount == 0 && reinterpret_cast<uintptr_t>(p.bank) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(p.query) % 16 == 0 && reinterpret_cast<uintptr_t>(p.tokens) % 16 == 0;
  const int vectors = (p.width / kCount + kWarp - 1) / kWarp;
  if (!aligned || vectors > 8) return launch<T, 0>(p, batch, ranks);
  if (vectors <= 1) return launch<T, 1>(p, batch, ranks);
  if (vectors <= 3) return launch<T, 3>(p, batch, ranks);
  if (vectors <= 6) return launch<T, 6>(p, batch, ranks);
  launch<T, 8>(p, batch, ranks);
}

}  // namespace
}  // namespace cuda

TapeReadResult tape_read_forward_cuda(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  const c10::cuda::OptionalCUDAGuard guard(inputs.query.device());
  const int64_t batch = inputs.query.size(0), width = inputs.query.size(1), bank_rows = inputs.bank.size(0);
  const int64_t steps = options.max_steps, rows_per_step = options.rows_per_step;
  if (inputs.order || !cuda::serves(inputs.bank, inputs.norm_weight, inputs.norm_bias, options.key_width, steps, rows_per_step, batch)) {
    cuda::record_limits();
    return tape_read_forward_reference(inputs, options);
  }

  const at::TensorOptions plain = inputs.query.options(), real = plain.dtype(at::kFloat), integer = plain.dtype(at::kLong);
  const at::Tensor tokens = at::empty({batch, steps, width}, plain), weights = at::empty({batch, steps, rows_per_step}, real);
  const at::Tensor indices = at::empty({batch, steps, rows_per_step}, integer), lengths = at::empty({batch}, integer);
  const at::Tensor ponder = at::empty({batch}, real), halting = at::empty({batch, steps}, real);
  if (batch == 0) return {tokens, weights, indices, lengths, ponder, halting};

  auto contiguous = [](const std::optional<at::Tensor>& tensor) { return tensor ? tensor->contiguous() : at::Tensor(); };
  const at::Tensor query = inputs.query.contiguous(), norm_weight = inputs.norm_weight.contiguous();
  const at::Tensor bank = inputs.bank.stride(1) == 1 || width == 1 ? inputs.bank : inputs.bank.contiguous();
  const at::Tensor norm_bias = inputs.norm_bias.contiguous(), offsets = contiguous(inputs.bank_offsets);
  const at::Tensor limits = contiguous(inputs.step_limits), mask = contiguous(inputs.bank_mask);
  const at::Tensor thresholds = inputs.thresholds ? inputs.thresholds->to(at::kDouble).contiguous() : at::Tensor();
  const at::Tensor query_offset = inputs.query_offset ? inputs.query_offset->to(at::kFloat).contiguous() : at::Tensor();

  cuda::ForwardParams p{};
  p.query = query.const_data_ptr(), p.bank = bank.const_data_ptr();
  p.weight = norm_weight.const_data_ptr(), p.bias = norm_bias.const_data_ptr();
  p.query_stride = width, p.bank_stride = bank.stride(0);
  p.offsets = offsets.defined() ? offsets.const_data_ptr<int64_t>() : nullptr;
  p.limits = limits.defined() ? limits.const_data_ptr<int64_t>() : nullptr;
  p.mask = mask.defined() ? mask.const_data_ptr<bool>() : nullptr;
  p.query_offset = query_offset.defined() ? query_offset.const_data_ptr<float>() : nullptr;
  p.thresholds = thresholds.defined() ? thresholds.const_data_ptr<double>() : nullptr;
  p.tokens = tokens.mutable_data_ptr(), p.weights = weights.mutable_data_ptr<float>(), p.ponder = ponder.mutable_data_ptr<float>();
  p.halting = halting.mutable_data_ptr<float>();
  p.indices = indices.mutable_data_ptr<int64_t>(), p.lengths = lengths.mutable_data_ptr<int64_t>();
  p.threshold = options.threshold;
  p.epsilon = static_cast<float>(options.norm_epsilon);
  p.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(options.key_width)));
  p.rows = static_cast<int>(bank_rows), p.width = static_cast<int>(width), p.key_width = static_cast<int>(options.key_width);
  p.key_stride = cuda::key_stride_of(options.key_width);
  p.steps = static_cast<int>(steps), p.rows_per_step = static_cast<int>(rows_per_step);
  p.float_norm = norm_weight.scalar_type() == at::kFloat;
  p.average = options.query_update == "average", p.entropy = options.ponder == "entropy";

  // As many CTAs an example as fill the device once, none with less than a warp or two of rows.
  const int64_t usual_rows = offsets.defined() ? (bank_rows + batch - 1) / batch : bank_rows;
  int ranks = 1;
  const int processors = cuda::device_attribute(cudaDevAttrMultiProcessorCount);
  while (2 * ranks <= cuda::kMaxRanks && 2 * ranks * batch <= processors && usual_rows > 2 * ranks * cuda::kWarp) ranks *= 2;

  // Shared memory for twice the usual rows, where it is that large.
  const int64_t row_bytes = p.key_stride * 4 + 5, most = cuda::device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin) - 1024;
  const int64_t spare = most - cuda::ForwardLayout(p, ranks).bytes;
  if (spare < 0) {
    cuda::record_limits();
    return tape_read_forward_reference(inputs, options);
  }
  const int64_t wanted = (offsets.defined() ? std::min(2 * usual_rows, bank_rows) : bank_rows) / ranks + 1;
  p.capacity = static_cast<int>(std::min(spare / row_bytes, wanted));

  // Global memory behind it, in one piece: no host knows how long the longest example is. Availability and scores of a shared bank are each
  // example's own.
  const bool all_near = (bank_rows + ranks - 1) / ranks <= p.capacity;
  const int64_t far_rows = all_near ? 0 : offsets.defined() ? bank_rows : batch * bank_rows;
  const int64_t of_keys = bank_rows * p.key_stride * 4, of_statistics = bank_rows * 8, of_encoded = far_rows * 4;
  const at::Tensor scratch = at::empty({of_keys + of_statistics + of_encoded + far_rows}, plain.dtype(at::kByte));
  uint8_t* const memory = scratch.mutable_data_ptr<uint8_t>();
  p.keys = reinterpret_cast<float*>(memory), p.statistics = reinterpret_cast<float2*>(memory + of_keys);
  p.encoded = reinterpret_cast<unsigned*>(memory + of_keys + of_statistics);
  p.available = memory + of_keys + of_statistics + of_encoded;

  ADATAPE_RECORD_ONCE(record_kernel(kTapeReading, "CUDA kernel"));
  if (bank.scalar_type() == at::kFloat) {
    cuda::launch_for<float>(p, batch, ranks);
  } else if (bank.scalar_type() == at::kHalf) {
    cuda::launch_for<c10::Half>(p, batch, ranks);
  } else {
    cuda::launch_for<c10::BFloat16>(p, batch, ranks);
  }
  return {tokens, weights, indices, lengths, ponder, halting};
}

namespace {
// This library is loaded when a CUDA device is first asked for.
const bool kRegistered = (set_tape_read_cuda_kernels({tape_read_forward_cuda, tape_read_backward_cuda}), true);
}  // namespace

}  // namespace adatape::ops
