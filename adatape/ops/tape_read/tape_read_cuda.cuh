// What the CUDA kernels of adatape::tape_read share: 16-byte packs of elements, sums of a warp, the barrier of a cluster, what they serve.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>
#include <cooperative_groups.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "adatape/ops/kernel_record.h"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kMaxRowsPerStep = kWarp;  // a lane for each row of a step
constexpr int kMaxPlaces = 2048;        // of [T, K]
constexpr int kMaxKeyWidth = 1024;
constexpr int kMaxRanks = 8;  // CTAs of a portable cluster

// 16 bytes of a row.
template <class T>
struct Pack;

template <>
struct Pack<float> {
  static constexpr int kCount = 4;
  static __device__ __forceinline__ void unpack(const uint4& raw, float (&out)[4]) {
    out[0] = __uint_as_float(raw.x), out[1] = __uint_as_float(raw.y), out[2] = __uint_as_float(raw.z), out[3] = __uint_as_float(raw.w);
  }
};

template <>
struct Pack<c10::BFloat16> {
  static constexpr int kCount = 8;
  static __device__ __forceinline__ void unpack(const uint4& raw, float (&out)[8]) {
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = __uint_as_float(words[i] << 16);
      out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
};

template <>
struct Pack<c10::Half> {
  static constexpr int kCount = 8;
  static __device__ __forceinline__ void unpack(const uint4& raw, float (&out)[8]) {
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const __half_raw low{static_cast<unsigned short>(words[i])}, high{static_cast<unsigned short>(words[i] >> 16)};
      out[2 * i] = __half2float(__half(low));
      out[2 * i + 1] = __half2float(__half(high));
    }
  }
};

template <class T>
struct alignas(16) Packed {
  T values[Pack<T>::kCount];
};

// 16 bytes of memory that no kernel writes meanwhile, not kept in L1: a row is streamed once.
__device__ __forceinline__ uint4 load_stream(const uint4* from) {
  uint4 raw;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "l"(from));
  return raw;
}

// An element of a norm parameter, which is float or of the bank's type.
template <class T>
__device__ __forceinline__ float load_norm(const void* from, bool is_float, int64_t i) {
  return is_float ? static_cast<const float*>(from)[i] : static_cast<float>(static_cast<const T*>(from)[i]);
}

__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

// Mean and 1 / sigma of a row, by one warp, whatever its alignment: three readings, the later ones from the caches.
template <class T>
__device__ __forceinline__ float2 row_norm(const T* row, int width, float epsilon, int lane) {
  float sum = 0, squares = 0;
#pragma unroll 8
  for (int f = lane; f < width; f += kWarp) sum += static_cast<float>(row[f]);
  const float mean = warp_sum(sum) / static_cast<float>(width);
#pragma unroll 8
  for (int f = lane; f < width; f += kWarp) {
    const float centred = static_cast<float>(row[f]) - mean;
    squares = fmaf(centred, centred, squares);
  }
  return make_float2(mean, rsqrtf(warp_sum(squares) / static_cast<float>(width) + epsilon));
}

// The two halves of the cluster's barrier, for all threads of all its CTAs: what came before an arrival, in shared and in global memory, is
// seen after the wait. Lanes that took different branches meet first: a warp arrives and waits as one. A CTA alone has the barrier of its
// own.
__device__ __forceinline__ void cluster_arrive(int ranks) {
  if (ranks == 1) return;
  __syncwarp();
  __cluster_barrier_arrive();
}
__device__ __forceinline__ void cluster_wait(int ranks) {
  if (ranks == 1) {
    __syncthreads();
  } else {
    __syncwarp();
    __cluster_barrier_wait();
  }
}

// `value` in low .. high: wrong offsets or limits give wrong answers but no access out of bounds.
__device__ __forceinline__ int64_t clamped(int64_t value, int64_t low, int64_t high) {
  return value < low ? low : value > high ? high : value;
}

constexpr int rounded_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Of the current device.
inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

inline bool serves(const at::Tensor& bank, const at::Tensor& norm_weight, const at::Tensor& norm_bias, int64_t key_width, int64_t steps,
                   int64_t rows_per_step, int64_t batch) {
  const at::ScalarType type = bank.scalar_type(), norm = norm_weight.scalar_type();
  return bank.is_cuda() && tape_read_cuda_serves_dtype(type) && (norm == type || norm == at::kFloat) && norm_bias.scalar_type() == norm &&
         key_width <= kMaxKeyWidth && rows_per_step <= kMaxRowsPerStep && steps * rows_per_step <= kMaxPlaces &&
         bank.size(0) < (int64_t{1} << 30) && bank.size(1) < (int64_t{1} << 24) && batch < (int64_t{1} << 24) &&
         device_attribute(cudaDevAttrComputeCapabilityMajor) >= 9;
}

// Said where plain calls take over.
inline void record_limits() {
  ADATAPE_RECORD_ONCE(record_kernel(kTapeReading, "plain calls"));
  ADATAPE_RECORD_ONCE(record_fallback(kTapeReading,
                                      "its kernels on CUDA read up to 32 rows a step, 2,048 rows in all, with keys of up to 1,024 features, "
                                      "as far as shared memory holds them"));
}

}  // namespace adatape::ops::cuda
