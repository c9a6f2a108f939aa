// C++ signatures of the two registered ops, as the dispatcher stores them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {

using OptionalTensor = std::optional<at::Tensor>;

using TapeReadSignature = TapeReadResult(const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets,
                                         const at::Tensor& norm_weight, const at::Tensor& norm_bias, int64_t key_width, int64_t max_steps,
                                         int64_t rows_per_step, double threshold, const OptionalTensor& thresholds,
                                         const OptionalTensor& step_limits, const OptionalTensor& bank_mask, const OptionalTensor& order,
                                         const OptionalTensor& query_offset, std::string_view query_update, std::string_view ponder,
                                         double norm_epsilon);

using TapeReadBackwardSignature = TapeReadGradients(const OptionalTensor& grad_tokens, const OptionalTensor& grad_weights,
                                                    const OptionalTensor& grad_ponder, const at::Tensor& query, const at::Tensor& bank,
                                                    const OptionalTensor& bank_offsets, const at::Tensor& norm_weight,
                                                    const at::Tensor& norm_bias, const at::Tensor& weights, const at::Tensor& indices,
                                                    const at::Tensor& lengths, int64_t key_width, bool fixed_order,
                                                    std::string_view query_update, std::string_view ponder, double norm_epsilon,
                                                    const OptionalTensor& query_offset);

// Through the dispatcher: autograd if a key above allows it, then the kernel of the device.
TapeReadSignature call_tape_read;
TapeReadBackwardSignature call_tape_read_backward;

}  // namespace adatape::ops
