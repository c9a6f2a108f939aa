// Registers adatape::packed_attention, adatape::packed_self_attention and their backwards: schemas, checks, Meta kernels, which kernel
// runs.
#include "adatape/ops/packed_attention/packed_attention.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/packed_attention/packed_attention_dispatch.h"
#include "adatape/ops/packed_attention/packed_attention_kernels.h"
#include "adatape/ops/packed_linear/packed_linear.h"

namespace adatape::ops {
namespace {

constexpr const char* kComponent = "packed_attention";

// Shapes are compared as SymInt, so that the same checks serve fake tensors whose sizes are symbols.
void check_offsets_shape(const char* name, const at::Tensor& offsets, const at::Tensor& query) {
  ADATAPE_CHECK(offsets.scalar_type() == at::kLong, kComponent, "expected ", name, " of dtype Long, got ", offsets.scalar_type());
  ADATAPE_CHECK(offsets.dim() == 1 && offsets.sym_size(0) >= 1, kComponent, "expected ", name, " [batch + 1], got ", offsets.sym_sizes());
  ADATAPE_CHECK(offsets.device() == query.device(), kComponent, "expected ", name, " on ", query.device(), " like the tokens, got ",
                offsets.device());
}

PackedAttentionInputs checked(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& query_offsets,
                              const at::Tensor& key_offsets, double scale) {
  ADATAPE_CHECK(query.dim() == 3, kComponent, "expected query [tokens, heads, head width], got ", query.sym_sizes());
  ADATAPE_CHECK(at::isFloatingType(query.scalar_type()), kComponent, "expected query of a floating dtype, got ", query.scalar_type());
  const c10::SymInt heads = query.sym_size(1), width = query.sym_size(2);
  ADATAPE_CHECK(key.dim() == 3 && key.sym_size(2) == width, kComponent, "expected key [tokens, key heads, ", width, "] as query is ",
                query.sym_sizes(), ", got ", key.sym_sizes());
  ADATAPE_CHECK(key.sym_size(1) > 0 && heads % key.sym_size(1) == 0, kComponent, "expected key heads that divide ", heads, " heads, got ",
                key.sym_size(1));
  ADATAPE_CHECK(value.dim() == 3 && value.sym_sizes() == key.sym_sizes(), kComponent, "expected value ", key.sym_sizes(), " like key, got ",
                value.sym_sizes());
  for (const auto& [name, tensor] : {std::pair<const char*, const at::Tensor&>{"key", key}, {"value", value}}) {
    ADATAPE_CHECK(tensor.scalar_type() == query.scalar_type() && tensor.device() == query.device(), kComponent, "expected ", name,
                  " of dtype ", query.scalar_type(), " on ", query.device(), " like query, got ", tensor.scalar_type(), " on ",
                  tensor.device());
  }
  check_offsets_shape("query_offsets", query_offsets, query);
  check_offsets_shape("key_offsets", key_offsets, query);
  ADATAPE_CHECK(query_offsets.sym_size(0) == key_offsets.sym_size(0), kComponent,
                "expected query_offsets and key_offsets of one batch, got ", query_offsets.sym_size(0), " and ", key_offsets.sym_size(0));
  ADATAPE_CHECK(std::isfinite(scale) && scale > 0, kComponent, "expected a finite scale > 0, got ", scale);
  return {query, key, value, query_offsets, key_offsets};
}

PackedAttentionInputs checked_self(const at::Tensor& qkv, const at::Tensor& offsets, double scale) {
  ADATAPE_CHECK(qkv.dim() == 4 && qkv.sym_size(1) == 3, kComponent, "expected qkv [tokens, 3, heads, head width], got ", qkv.sym_sizes());
  return checked(qkv.select(1, 0), qkv.select(1, 1), qkv.select(1, 2), offsets, offsets, scale);
}

void check_saved(const PackedAttentionInputs& in, const PackedAttentionSaved& saved) {
  for (const auto& [name, tensor] :
       {std::pair<const char*, const at::Tensor&>{"grad_output", saved.grad_output}, {"output", saved.output}}) {
    ADATAPE_CHECK(tensor.sym_sizes() == in.query.sym_sizes() && tensor.scalar_type() == in.query.scalar_type(), kComponent, "expected ",
                  name, " ", in.query.sym_sizes(), " of dtype ", in.query.scalar_type(), " like query, got ", tensor.sym_sizes(), " of ",
                  tensor.scalar_type());
  }
  ADATAPE_CHECK(saved.logsumexp.dim() == 2 && saved.logsumexp.sym_size(0) == in.query.sym_size(1) &&
                    saved.logsumexp.sym_size(1) == in.query.sym_size(0) && saved.logsumexp.scalar_type() != at::kHalf &&
                    saved.logsumexp.scalar_type() != at::kBFloat16,
                kComponent, "expected logsumexp [heads, tokens] of the query ", in.query.sym_sizes(), ", got ",
                saved.logsumexp.sym_sizes());
}

// The same calls on each device: kernels differ in how they fill what is allocated here.
struct Kernel {
  PackedAttentionResult (*forward)(const PackedAttentionInputs&, const PackedAttentionOptions&);
  void (*backward)(const PackedAttentionInputs&, const PackedAttentionSaved&, const PackedAttentionOptions&,
                   const PackedAttentionGradients&);
};

Kernel any_kernel(const at::Tensor&) {
  ADATAPE_RECORD_ONCE(record_kernel(kAttention, "plain calls, example by example"));
  ADATAPE_RECORD_ONCE(record_fallback(kAttention, "the operator's kernel serves float32 on the CPU"));
  return {packed_attention_forward_reference, packed_attention_backward_reference};
}
Kernel cpu_kernel(const at::Tensor& query) {
  if (packed_attention_kernel_name(at::kCPU, query.scalar_type()) != "cpu") return any_kernel(query);
  return {[](const auto& in, const auto& options) { return packed_attention_forward_cpu(in, options); },
          [](const auto& in, const auto& saved, const auto& options, const auto& out) {
            packed_attention_backward_cpu(in, saved, options, out);
          }};
}

PackedAttentionResult forward_meta(const PackedAttentionInputs& in, const PackedAttentionOptions&) {
  const at::ScalarType type = in.query.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {at::empty_symint(in.query.sym_sizes(), in.query.options()),
          at::empty_symint({in.query.sym_size(1), in.query.sym_size(0)}, in.query.options().dtype(type))};
}
void backward_meta(const PackedAttentionInputs&, const PackedAttentionSaved&, const PackedAttentionOptions&,
                   const PackedAttentionGradients&) {}
Kernel meta_kernel(const at::Tensor&) { return {forward_meta, backward_meta}; }

using PickKernel = Kernel (*)(const at::Tensor& query);
at::Tensor empty_like_dense(const at::Tensor& x) { return at::empty_symint(x.sym_sizes(), x.options()); }

template <PickKernel pick>
PackedAttentionResult forward(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const at::Tensor& query_offsets,
                              const at::Tensor& key_offsets, bool causal, double scale) {
  return pick(query).forward(checked(query, key, value, query_offsets, key_offsets, scale), {causal, scale});
}

template <PickKernel pick>
std::tuple<at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& grad_output, const at::Tensor& query, const at::Tensor& key,
                                                        const at::Tensor& value, const at::Tensor& query_offsets,
                                                        const at::Tensor& key_offsets, const at::Tensor& output,
                                                        const at::Tensor& logsumexp, bool causal, double scale) {
  const PackedAttentionInputs inputs = checked(query, key, value, query_offsets, key_offsets, scale);
  const PackedAttentionSaved saved{grad_output, output, logsumexp};
  check_saved(inputs, saved);
  const PackedAttentionGradients gradients{empty_like_dense(query), empty_like_dense(key), empty_like_dense(value)};
  pick(query).backward(inputs, saved, {causal, scale}, gradients);
  return {gradients.query, gradients.key, gradients.value};
}

template <PickKernel pick>
PackedAttentionResult self_forward(const at::Tensor& qkv, const at::Tensor& offsets, bool causal, double scale) {
  return pick(qkv).forward(checked_self(qkv, offsets, scale), {causal, scale});
}

template <PickKernel pick>
at::Tensor self_backward(const at::Tensor& grad_output, const at::Tensor& qkv, const at::Tensor& offsets, const at::Tensor& output,
                         const at::Tensor& logsumexp, bool causal, double scale) {
  const PackedAttentionInputs inputs = checked_self(qkv, offsets, scale);
  const PackedAttentionSaved saved{grad_output, output, logsumexp};
  check_saved(inputs, saved);
  const at::Tensor gradient = empty_like_dense(qkv);
  pick(qkv).backward(inputs, saved, {causal, scale}, {gradient.select(1, 0), gradient.select(1, 1), gradient.select(1, 2)});
  return gradient;
}

template <PickKernel pick>
void register_kernels(torch::Library& m) {
  m.impl("packed_attention", &forward<pick>);
  m.impl("packed_attention_backward", &backward<pick>);
  m.impl("packed_self_attention", &self_forward<pick>);
  m.impl("packed_self_attention_backward", &self_backward<pick>);
}

template <class Signature>
auto find_op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(adatape, m) {
  m.def(
      "packed_attention(Tensor query, Tensor key, Tensor value, Tensor query_offsets, Tensor key_offsets, *, bool causal=False, "
      "float scale=1.0) -> (Tensor output, Tensor logsumexp)");
  m.def(
      "packed_attention_backward(Tensor grad_output, Tensor query, Tensor key, Tensor value, Tensor query_offsets, Tensor key_offsets, "
      "Tensor output, Tensor logsumexp, *, bool causal=False, float scale=1.0) -> (Tensor grad_query, Tensor grad_key, Tensor grad_value)");
  m.def("packed_self_attention(Tensor qkv, Tensor offsets, *, bool causal=False, float scale=1.0) -> (Tensor output, Tensor logsumexp)");
  m.def(
      "packed_self_attention_backward(Tensor grad_output, Tensor qkv, Tensor offsets, Tensor output, Tensor logsumexp, *, bool "
      "causal=False, "
      "float scale=1.0) -> Tensor");
}

TORCH_LIBRARY_IMPL(adatape, CPU, m) { register_kernels<cpu_kernel>(m); }
TORCH_LIBRARY_IMPL(adatape, Meta, m) { register_kernels<meta_kernel>(m); }
// Any device that has no kernel of its own; packed_attention_kernel_name tells.
TORCH_LIBRARY_IMPL(adatape, CompositeExplicitAutograd, m) { register_kernels<any_kernel>(m); }

PackedAttentionResult call_packed_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                            const at::Tensor& query_offsets, const at::Tensor& key_offsets, bool causal, double scale) {
  static const auto op = find_op<PackedAttentionSignature>("adatape::packed_attention");
  return op.call(query, key, value, query_offsets, key_offsets, causal, scale);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> call_packed_attention_backward(const at::Tensor& grad_output, const at::Tensor& query,
                                                                              const at::Tensor& key, const at::Tensor& value,
                                                                              const at::Tensor& query_offsets,
                                                                              const at::Tensor& key_offsets, const at::Tensor& output,
                                                                              const at::Tensor& logsumexp, bool causal, double scale) {
  static const auto op = find_op<PackedAttentionBackwardSignature>("adatape::packed_attention_backward");
  return op.call(grad_output, query, key, value, query_offsets, key_offsets, output, logsumexp, causal, scale);
}

PackedAttentionResult call_packed_self_attention(const at::Tensor& qkv, const at::Tensor& offsets, bool causal, double scale) {
  static const auto op = find_op<PackedSelfAttentionSignature>("adatape::packed_self_attention");
  return op.call(qkv, offsets, causal, scale);
}

at::Tensor call_packed_self_attention_backward(const at::Tensor& grad_output, const at::Tensor& qkv, const at::Tensor& offsets,
                                               const at::Tensor& output, const at::Tensor& logsumexp, bool causal, double scale) {
  static const auto op = find_op<PackedSelfAttentionBackwardSignature>("adatape::packed_self_attention_backward");
  return op.call(grad_output, qkv, offsets, output, logsumexp, causal, scale);
}

PackedAttentionResult packed_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                                       const at::Tensor& query_offsets, const at::Tensor& key_offsets,
                                       const PackedAttentionOptions& options) {
  return call_packed_attention(query, key, value, query_offsets, key_offsets, options.causal, options.scale);
}

PackedAttentionResult packed_self_attention(const at::Tensor& qkv, const at::Tensor& offsets, const PackedAttentionOptions& options) {
  return call_packed_self_attention(qkv, offsets, options.causal, options.scale);
}

at::Tensor packed_self_attention_bfloat16(const at::Tensor& qkv, const at::Tensor& offsets, const PackedAttentionOptions& options) {
  ADATAPE_CHECK(!(at::GradMode::is_enabled() && qkv.requires_grad()), kComponent,
                "expected qkv of which no gradient is asked, got one that requires it; call it under a NoGradGuard");
  ADATAPE_CHECK(has_bfloat16_products() && qkv.is_cpu() && qkv.scalar_type() == at::kFloat, kComponent,
                "expected qkv of float32 on a processor with bfloat16 products, got ", qkv.toString());
  return std::get<0>(packed_attention_forward_cpu(checked_self(qkv, offsets, options.scale), options, 0, at::kBFloat16));
}

std::string packed_attention_kernel_name(c10::Device device, at::ScalarType dtype) {
  return device.is_cpu() && dtype == at::kFloat ? "cpu" : "reference";
}

void check_attention_offsets(const PackedAttentionInputs& in, bool causal) {
  const at::Tensor queries = in.query_offsets.contiguous(), keys = in.key_offsets.contiguous();
  const int64_t *const q = queries.const_data_ptr<int64_t>(), *const k = keys.const_data_ptr<int64_t>(), last = queries.numel() - 1;
  ADATAPE_CHECK(q[0] == 0 && q[last] == in.query.size(0), kComponent, "expected query_offsets from 0 to ", in.query.size(0), ", got ", q[0],
                " to ", q[last]);
  ADATAPE_CHECK(k[0] == 0 && k[last] == in.key.size(0), kComponent, "expected key_offsets from 0 to ", in.key.size(0), ", got ", k[0],
                " to ", k[last]);
  for (int64_t b = 0; b < last; ++b) {
    ADATAPE_CHECK(q[b] <= q[b + 1], kComponent, "expected query_offsets that never fall, got ", q[b], " then ", q[b + 1], " at example ",
                  b);
    ADATAPE_CHECK(k[b] <= k[b + 1], kComponent, "expected key_offsets that never fall, got ", k[b], " then ", k[b + 1], " at example ", b);
    const int64_t query_count = q[b + 1] - q[b], key_count = k[b + 1] - k[b];
    ADATAPE_CHECK(query_count == 0 || key_count > 0, kComponent, "expected keys for the queries of example ", b, ", got ", query_count,
                  " queries and no keys");
    ADATAPE_CHECK(!causal || query_count <= key_count, kComponent, "expected at most as many queries as keys (causal), got ", query_count,
                  " queries and ", key_count, " keys in example ", b);
  }
}

}  // namespace adatape::ops
