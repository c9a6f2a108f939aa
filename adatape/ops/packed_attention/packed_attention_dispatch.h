// C++ signatures of the registered ops, as the dispatcher stores them. Calls pass through it: autograd if a key above allows it, then the
// kernel of the device.
#pragma once

#include "adatape/ops/packed_attention/packed_attention.h"

namespace adatape::ops {

using PackedAttentionSignature = PackedAttentionResult(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                                       const at::Tensor& query_offsets, const at::Tensor& key_offsets, bool causal,
                                                       double scale);
using PackedAttentionBackwardSignature = std::tuple<at::Tensor, at::Tensor, at::Tensor>(
    const at::Tensor& grad_output, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& query_offsets,
    const at::Tensor& key_offsets, const at::Tensor& output, const at::Tensor& logsumexp, bool causal, double scale);
using PackedSelfAttentionSignature = PackedAttentionResult(const at::Tensor& qkv, const at::Tensor& offsets, bool causal, double scale);
using PackedSelfAttentionBackwardSignature = at::Tensor(const at::Tensor& grad_output, const at::Tensor& qkv, const at::Tensor& offsets,
                                                        const at::Tensor& output, const at::Tensor& logsumexp, bool causal, double scale);

PackedAttentionSignature call_packed_attention;
PackedAttentionBackwardSignature call_packed_attention_backward;
PackedSelfAttentionSignature call_packed_self_attention;
PackedSelfAttentionBackwardSignature call_packed_self_attention_backward;

}  // namespace adatape::ops
