// Readings that the tests of tape_read share: random ones of every form, and the kernels that must agree on them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/types.h>

#include <string>
#include <vector>

#include "adatape/ops/tape_read/tape_read_kernels.h"
#include "tests/cuda.h"

namespace adatape::ops {

struct Kernel {
  const char* name;
  TapeReadResult (*forward)(const TapeReadInputs&, const TapeReadOptions&);
  TapeReadGradients (*backward)(const TapeReadBackwardInputs&, const TapeReadBackwardOptions&);
};

inline const Kernel kReference{"reference", tape_read_forward_reference, tape_read_backward_reference};
inline const Kernel kCpu{"cpu", tape_read_forward_cpu, tape_read_backward_cpu};

// The same reading on another device; a tensor that is there already stays as it is, strides included.
inline TapeReadInputs moved(TapeReadInputs in, c10::Device device) {
  for (at::Tensor* tensor : {&in.query, &in.bank, &in.norm_weight, &in.norm_bias}) *tensor = tensor->to(device);
  for (auto* tensor : {&in.bank_offsets, &in.thresholds, &in.step_limits, &in.bank_mask, &in.order, &in.query_offset}) {
    if (*tensor) *tensor = (*tensor)->to(device);
  }
  return in;
}

inline TapeReadBackwardInputs moved(TapeReadBackwardInputs in, c10::Device device) {
  for (at::Tensor* tensor : {&in.query, &in.bank, &in.norm_weight, &in.norm_bias, &in.weights, &in.indices, &in.lengths})
    *tensor = tensor->to(device);
  for (auto* tensor : {&in.grad_tokens, &in.grad_weights, &in.grad_ponder, &in.bank_offsets, &in.query_offset}) {
    if (*tensor) *tensor = (*tensor)->to(device);
  }
  return in;
}

template <class... Tensors>
std::tuple<Tensors...> on_cpu(const std::tuple<Tensors...>& tensors) {
  return std::apply([](const auto&... tensor) { return std::tuple<Tensors...>(tensor.cpu()...); }, tensors);
}

// The GPU's kernels: inputs go there, answers come back.
inline const Kernel kCuda{"cuda",
                          [](const TapeReadInputs& inputs, const TapeReadOptions& options) {
                            return on_cpu(tape_read_cuda_kernels().forward(moved(inputs, at::kCUDA), options));
                          },
                          [](const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
                            return on_cpu(tape_read_cuda_kernels().backward(moved(inputs, at::kCUDA), options));
                          }};

// The reference on the GPU.
inline const Kernel kCudaReference{"cuda_reference",
                                   [](const TapeReadInputs& inputs, const TapeReadOptions& options) {
                                     return on_cpu(tape_read_forward_reference(moved(inputs, at::kCUDA), options));
                                   },
                                   [](const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
                                     return on_cpu(tape_read_backward_reference(moved(inputs, at::kCUDA), options));
                                   }};

// For SetUp of tests that need a GPU and our kernels on it.
inline void need_cuda_kernels() {
  need_cuda();
  if (kHasCuda) {
    ASSERT_NE(tape_read_cuda_kernels().forward, nullptr) << "a CUDA device answers, but libadatape_cuda.so is not loaded";
  }
}

inline std::string kernel_of(const testing::TestParamInfo<Kernel>& test) { return test.param.name; }

struct Reading {
  std::string name;
  TapeReadInputs inputs;
  TapeReadOptions options;
};

// Random query, bank and norm for examples with so many rows; a shared bank if `shared` (then all counts are equal).
inline Reading make_reading(const std::string& name, const std::vector<int64_t>& rows, int64_t width, const TapeReadOptions& options,
                            at::ScalarType type = at::kFloat, bool shared = false) {
  std::vector<int64_t> offsets{0};
  for (int64_t count : rows) offsets.push_back(offsets.back() + count);
  const int64_t batch = static_cast<int64_t>(rows.size());
  Reading reading{name, {}, options};
  reading.inputs.query = at::randn({batch, width}).to(type);
  reading.inputs.bank = at::randn({shared ? rows.at(0) : offsets.back(), width}).to(type);
  if (!shared) reading.inputs.bank_offsets = torch::tensor(offsets, at::kLong);
  reading.inputs.norm_weight = (1 + 0.3 * at::randn({width})).to(type);
  reading.inputs.norm_bias = (0.3 * at::randn({width})).to(type);
  return reading;
}

inline TapeReadGradients run_backward(const Kernel& kernel, const Reading& reading, const TapeReadResult& result,
                                      const std::optional<at::Tensor>& grad_tokens, const std::optional<at::Tensor>& grad_weights,
                                      const std::optional<at::Tensor>& grad_ponder) {
  const TapeReadInputs& in = reading.inputs;
  const auto& [tokens, weights, indices, lengths, ponder, halting] = result;
  return kernel.backward({grad_tokens, grad_weights, grad_ponder, in.query, in.bank, in.bank_offsets, in.norm_weight, in.norm_bias, weights,
                          indices, lengths, in.query_offset},
                         {reading.options.key_width, in.order.has_value(), reading.options.query_update, reading.options.ponder,
                          reading.options.norm_epsilon});
}

// |got - expected| <= tolerance * max(1, max |expected|); integers and NaN places are equal.
inline void expect_close(const at::Tensor& got, const at::Tensor& expected, double tolerance, const std::string& what) {
  ASSERT_EQ(got.sizes(), expected.sizes()) << what;
  if (!at::isFloatingType(expected.scalar_type())) {
    EXPECT_TRUE(at::equal(got.to(at::kLong), expected.to(at::kLong))) << what << "\n" << got << "\nexpected\n" << expected;
    return;
  }
  const at::Tensor a = got.to(at::kDouble), b = expected.to(at::kDouble);
  ASSERT_TRUE(at::equal(a.isnan(), b.isnan())) << what << ": NaN elsewhere";
  if (b.numel() == 0) return;
  const at::Tensor x = at::nan_to_num(a), y = at::nan_to_num(b);
  const double error = (x - y).abs().max().item<double>(), size = std::max(1.0, y.abs().max().item<double>());
  EXPECT_LE(error, tolerance * size) << what;
}

// Every output and gradient of two readings.
inline void expect_close(const TapeReadResult& got, const TapeReadResult& expected, double tolerance, const std::string& what) {
  expect_close(std::get<2>(got), std::get<2>(expected), 0, what + " indices");
  expect_close(std::get<3>(got), std::get<3>(expected), 0, what + " lengths");
  expect_close(std::get<0>(got), std::get<0>(expected), tolerance, what + " tokens");
  expect_close(std::get<1>(got), std::get<1>(expected), tolerance, what + " weights");
  expect_close(std::get<4>(got), std::get<4>(expected), tolerance, what + " ponder");
  expect_close(std::get<5>(got), std::get<5>(expected), tolerance, what + " halting");
}

inline void expect_close(const TapeReadGradients& got, const TapeReadGradients& expected, double tolerance, const std::string& what) {
  expect_close(std::get<0>(got), std::get<0>(expected), tolerance, what + " gradient of query");
  expect_close(std::get<1>(got), std::get<1>(expected), tolerance, what + " gradient of bank");
  expect_close(std::get<2>(got), std::get<2>(expected), tolerance, what + " gradient of norm_weight");
  expect_close(std::get<3>(got), std::get<3>(expected), tolerance, what + " gradient of norm_bias");
}

}  // namespace adatape::ops
