// How the CPU kernels of all ops are compiled for newer machines than the oldest x86-64, and how much work is worth a thread.
#pragma once

#include <cstdint>

namespace adatape::ops::cpu {

// A function marked ADATAPE_CPU_CLONES is compiled for AVX2 with FMA as well as for the oldest x86-64; what it inlines comes along.
// ADATAPE_CPU_AVX512 marks one that is called only where has_avx512() says so.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define ADATAPE_CPU_CLONES __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define ADATAPE_CPU_CLONES  // an ifunc resolver runs before the address sanitizer is ready
#endif
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define ADATAPE_CPU_AVX512 __attribute__((target("arch=x86-64-v4,prefer-vector-width=512")))
inline bool has_avx512() { return __builtin_cpu_supports("x86-64-v4"); }
#else
#define ADATAPE_CPU_AVX512
inline bool has_avx512() { return false; }
#endif
#define ADATAPE_ALWAYS_INLINE inline __attribute__((always_inline))
#define ADATAPE_INLINE_LAMBDA __attribute__((always_inline))

// How many items a thread takes at least, when an item touches so many elements: waking a thread costs as much as some ten thousand.
inline int64_t grain(int64_t elements) { return elements > 0 && elements < 32768 ? 32768 / elements : 1; }

}  // namespace adatape::ops::cpu
