// What is recorded of the kernels that run: once each, from any thread, named by the instructions that they have here.
#include "adatape/ops/kernel_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <thread>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/packed_attention/packed_attention.h"
#include "adatape/ops/packed_linear/packed_linear.h"
#include "adatape/ops/tape_read/tape_read.h"

namespace adatape::ops {
namespace {

int64_t times(const std::vector<KernelRecord>& records, const KernelRecord& record) {
  return std::count(records.begin(), records.end(), record);
}

TEST(KernelRecordTest, KeepsEachPairOnceFromAnyThread) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 100; ++i) {
        record_kernel(kAttention, "test kernel " + std::to_string(i % 3));
        record_fallback(kNorms, "test reason");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(times(recorded_kernels(), {kAttention, "test kernel " + std::to_string(i)}), 1) << i;
  EXPECT_EQ(times(recorded_fallbacks(), {kNorms, "test reason"}), 1);
  EXPECT_EQ(times(recorded_kernels(), {kNorms, "test reason"}), 0);
  EXPECT_THAT(recorded_kernels_text(), ::testing::ContainsRegex("attention [^;]*test kernel"));
}

TEST(KernelRecordTest, APlaceSpeaksOnce) {
  int spoken = 0;
  for (int i = 0; i < 5; ++i) ADATAPE_RECORD_ONCE(++spoken);
  EXPECT_EQ(spoken, 1);
}

TEST(KernelRecordTest, InstructionsAreThoseOfThisProcessor) {
  EXPECT_STREQ(cpu_instructions(16), "avx512");
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
  EXPECT_STREQ(cpu_instructions(8), __builtin_cpu_supports("x86-64-v3") ? "avx2" : "plain");
#else
  EXPECT_STREQ(cpu_instructions(8), "plain");
#endif
}

TEST(KernelRecordTest, ProductsAndAttentionNameWhatRan) {
  const at::NoGradGuard no_grad;
  const std::string widest = cpu_instructions(cpu::has_avx512() ? 16 : 8), narrow = cpu_instructions(8);
  const at::Tensor x = at::ones({3, 8});
  packed_linear(x, pack_weight(at::ones({4, 8}), {}, at::kFloat));
  EXPECT_EQ(times(recorded_kernels(), {kMatrixProducts, concat("packed ", widest, " float32")}), 1);
  packed_linear(x, pack_weight(at::ones({4, 8}), {}, at::kFloat, /*gated=*/false, /*vector_bytes=*/32));
  EXPECT_EQ(times(recorded_kernels(), {kMatrixProducts, concat("packed ", narrow, " float32")}), 1);
  EXPECT_EQ(packed_linear_kernel_name(at::kFloat), concat("packed ", widest, " float32"));
  if (has_bfloat16_products()) {
    packed_linear(x, pack_weight(at::ones({4, 8}), {}, at::kBFloat16));
    EXPECT_EQ(times(recorded_kernels(), {kMatrixProducts, "packed avx512 bfloat16"}), 1);
  }
  const at::Tensor offsets = torch::tensor({0, 5}, at::kLong);
  packed_self_attention(at::ones({5, 3, 1, 16}), offsets, {});
  EXPECT_EQ(times(recorded_kernels(), {kAttention, concat("packed ", widest, " float32")}), 1);
  packed_self_attention(at::ones({5, 3, 1, 16}, at::kDouble), offsets, {});
  EXPECT_EQ(times(recorded_kernels(), {kAttention, "plain calls, example by example"}), 1);
  EXPECT_EQ(times(recorded_fallbacks(), {kAttention, "the operator's kernel serves float32 on the CPU"}), 1);
}

TEST(KernelRecordTest, TapeReadingSaysWhereItsKernelDoesNotServe) {
  const auto read = [](at::ScalarType type, at::ScalarType norm) {
    TapeReadOptions options;
    options.key_width = 4;
    tape_read(at::ones({1, 8}, type), at::ones({6, 8}, type), std::nullopt, at::ones({8}, norm), at::zeros({8}, norm), options);
  };
  const KernelRecord fallback{kTapeReading, "the CPU's kernel serves float32 and float64, with a norm of the same dtype"};
  read(at::kFloat, at::kFloat);
  EXPECT_EQ(times(recorded_kernels(), {kTapeReading, concat("fused ", cpu_instructions(8), " float32")}), 1);
  read(at::kBFloat16, at::kFloat);
  EXPECT_EQ(times(recorded_fallbacks(), fallback), 1);
  EXPECT_EQ(times(recorded_kernels(), {kTapeReading, "plain calls"}), 1);
}

}  // namespace
}  // namespace adatape::ops
