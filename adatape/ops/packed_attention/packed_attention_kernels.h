// The kernels behind adatape::packed_attention: what the dispatcher picks from, and what tests and benchmarks compare.
#pragma once

#include <string>

#include "adatape/ops/packed_attention/packed_attention.h"

namespace adatape::ops {

// The tensors of packed_attention.h.
struct PackedAttentionInputs {
  at::Tensor query, key, value;           // [Tq, heads, d], [Tk, key_heads, d], the same
  at::Tensor query_offsets, key_offsets;  // int64 [B + 1]
};

// What came back from the forward, and the gradient of its output.
struct PackedAttentionSaved {
  at::Tensor grad_output, output;  // [Tq, heads, d]
  at::Tensor logsumexp;            // [heads, Tq]
};

// Where gradients are written: every element, in the shapes of query, key and value; may be strided views of one tensor.
struct PackedAttentionGradients {
  at::Tensor query, key, value;
};

// Plain ATen, example by example: every device and floating dtype. The oracle of the tests.
PackedAttentionResult packed_attention_forward_reference(const PackedAttentionInputs& inputs, const PackedAttentionOptions& options);
void packed_attention_backward_reference(const PackedAttentionInputs& inputs, const PackedAttentionSaved& saved,
                                         const PackedAttentionOptions& options, const PackedAttentionGradients& gradients);

// Blocked loops for float32 on the CPU. The gradients' last stride is 1.
// vector_bytes: 64 (AVX-512, where the machine has it) or 32 (AVX2 or older, picked at run time); 0: the widest of the machine.
// products: kBFloat16 rounds the factors of both products, where has_bfloat16_products(); sums and the softmax stay float32.
PackedAttentionResult packed_attention_forward_cpu(const PackedAttentionInputs& inputs, const PackedAttentionOptions& options,
                                                   int vector_bytes = 0, at::ScalarType products = at::kFloat);
void packed_attention_backward_cpu(const PackedAttentionInputs& inputs, const PackedAttentionSaved& saved,
                                   const PackedAttentionOptions& options, const PackedAttentionGradients& gradients, int vector_bytes = 0);

// Which kernel runs for tokens on this device and of this dtype: "cpu" or "reference".
std::string packed_attention_kernel_name(c10::Device device, at::ScalarType dtype);

// Throws Error unless the offsets (on the host) fit the tensors and each other.
void check_attention_offsets(const PackedAttentionInputs& inputs, bool causal);

}  // namespace adatape::ops
