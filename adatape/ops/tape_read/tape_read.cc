// Registers adatape::tape_read and its backward: schemas, argument checks, Meta kernels, which kernel runs where.
#include "adatape/ops/tape_read/tape_read.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/ops/cuda_architecture.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/tape_read/tape_read_dispatch.h"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {
namespace {

constexpr const char* kComponent = "tape_read";

// Shapes are compared as SymInt, so that the same checks serve fake tensors whose sizes are symbols.
void check_shape(const char* name, const at::Tensor& tensor, std::vector<c10::SymInt> expected) {
  bool same = tensor.dim() == static_cast<int64_t>(expected.size());
  for (size_t i = 0; same && i < expected.size(); ++i) same = tensor.sym_size(static_cast<int64_t>(i)) == expected[i];
  ADATAPE_CHECK(same, kComponent, "expected ", name, " ", c10::SymIntArrayRef(expected), ", got ", tensor.sym_sizes());
}

void check_type(const char* name, const at::Tensor& tensor, at::ScalarType expected) {
  ADATAPE_CHECK(tensor.scalar_type() == expected, kComponent, "expected ", name, " of dtype ", expected, ", got ", tensor.scalar_type());
}

void check_device(const char* name, const at::Tensor& tensor, const at::Tensor& query) {
  ADATAPE_CHECK(tensor.device() == query.device(), kComponent, "expected ", name, " on ", query.device(), " like query, got ",
                tensor.device());
}

// What forward and backward share: query, bank, offsets, norm parameters.
void check_bank(const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets, const at::Tensor& norm_weight,
                const at::Tensor& norm_bias, int64_t key_width, std::string_view query_update, std::string_view ponder,
                double norm_epsilon) {
  ADATAPE_CHECK(query.dim() == 2, kComponent, "expected query [batch, width], got ", query.sym_sizes());
  ADATAPE_CHECK(at::isFloatingType(query.scalar_type()), kComponent, "expected query of a floating dtype, got ", query.scalar_type());
  const c10::SymInt batch = query.sym_size(0), width = query.sym_size(1);
  ADATAPE_CHECK(bank.dim() == 2 && bank.sym_size(1) == width, kComponent, "expected bank [rows, ", width, "] as query is ",
                query.sym_sizes(), ", got ", bank.sym_sizes());
  check_type("bank (like query)", bank, query.scalar_type());
  check_device("bank", bank, query);
  for (const auto& [name, tensor] : {std::pair<const char*, const at::Tensor&>{"norm_weight", norm_weight}, {"norm_bias", norm_bias}}) {
    check_shape(name, tensor, {width});
    ADATAPE_CHECK(tensor.scalar_type() == query.scalar_type() || tensor.scalar_type() == tape_read_compute_type(query.scalar_type()),
                  kComponent, "expected ", name, " of dtype ", query.scalar_type(), " (or Float beside Half and BFloat16), got ",
                  tensor.scalar_type());
    check_device(name, tensor, query);
  }
  if (bank_offsets) {
    check_type("bank_offsets", *bank_offsets, at::kLong);
    check_shape("bank_offsets (batch + 1)", *bank_offsets, {batch + 1});
    check_device("bank_offsets", *bank_offsets, query);
  }
  ADATAPE_CHECK(key_width >= 1 && width >= key_width, kComponent, "expected 1 <= key_width <= width ", width, ", got ", key_width);
  ADATAPE_CHECK(query_update == "average" || query_update == "replace", kComponent,
                "expected query_update \"average\" or \"replace\", got \"", query_update, "\"");
  ADATAPE_CHECK(ponder == "entropy" || ponder == "max", kComponent, "expected ponder \"entropy\" or \"max\", got \"", ponder, "\"");
  ADATAPE_CHECK(norm_epsilon >= 0 && std::isfinite(norm_epsilon), kComponent, "expected a finite norm_epsilon >= 0, got ", norm_epsilon);
}

void check_query_offset(const at::Tensor& query_offset, const at::Tensor& query, int64_t key_width) {
  ADATAPE_CHECK(at::isFloatingType(query_offset.scalar_type()), kComponent, "expected query_offset of a floating dtype, got ",
                query_offset.scalar_type());
  check_shape("query_offset (batch, key_width)", query_offset, {query.sym_size(0), key_width});
  check_device("query_offset", query_offset, query);
}

TapeReadInputs checked_inputs(const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets,
                              const at::Tensor& norm_weight, const at::Tensor& norm_bias, int64_t key_width, int64_t max_steps,
                              int64_t rows_per_step, double threshold, const OptionalTensor& thresholds, const OptionalTensor& step_limits,
                              const OptionalTensor& bank_mask, const OptionalTensor& order, const OptionalTensor& query_offset,
                              std::string_view query_update, std::string_view ponder, double norm_epsilon) {
  check_bank(query, bank, bank_offsets, norm_weight, norm_bias, key_width, query_update, ponder, norm_epsilon);
  const c10::SymInt batch = query.sym_size(0), rows = bank.sym_size(0);
  ADATAPE_CHECK(max_steps >= 0, kComponent, "expected max_steps >= 0, got ", max_steps);
  ADATAPE_CHECK(rows_per_step >= 1, kComponent, "expected rows_per_step >= 1, got ", rows_per_step);
  ADATAPE_CHECK(!std::isnan(threshold), kComponent, "expected a threshold, got nan");
  const std::vector<c10::SymInt> row_shape = bank_offsets ? std::vector<c10::SymInt>{rows} : std::vector<c10::SymInt>{batch, rows};
  if (thresholds) {
    ADATAPE_CHECK(at::isFloatingType(thresholds->scalar_type()), kComponent, "expected thresholds of a floating dtype, got ",
                  thresholds->scalar_type());
    check_shape("thresholds (one for each example)", *thresholds, {batch});
    check_device("thresholds", *thresholds, query);
  }
  if (step_limits) {
    check_type("step_limits", *step_limits, at::kLong);
    check_shape("step_limits (one for each example)", *step_limits, {batch});
    check_device("step_limits", *step_limits, query);
  }
  if (bank_mask) {
    check_type("bank_mask", *bank_mask, at::kBool);
    check_shape(bank_offsets ? "bank_mask (packed rows)" : "bank_mask (batch, rows of the shared bank)", *bank_mask, row_shape);
    check_device("bank_mask", *bank_mask, query);
  }
  if (order) {
    check_type("order", *order, at::kLong);
    check_shape(bank_offsets ? "order (packed rows)" : "order (batch, rows of the shared bank)", *order, row_shape);
    check_device("order", *order, query);
  }
  if (query_offset) check_query_offset(*query_offset, query, key_width);
  return {query, bank, bank_offsets, norm_weight, norm_bias, thresholds, step_limits, bank_mask, order, query_offset};
}

TapeReadBackwardInputs checked_backward_inputs(const OptionalTensor& grad_tokens, const OptionalTensor& grad_weights,
                                               const OptionalTensor& grad_ponder, const at::Tensor& query, const at::Tensor& bank,
                                               const OptionalTensor& bank_offsets, const at::Tensor& norm_weight,
                                               const at::Tensor& norm_bias, const at::Tensor& weights, const at::Tensor& indices,
                                               const at::Tensor& lengths, int64_t key_width, std::string_view query_update,
                                               std::string_view ponder, double norm_epsilon, const OptionalTensor& query_offset) {
  check_bank(query, bank, bank_offsets, norm_weight, norm_bias, key_width, query_update, ponder, norm_epsilon);
  const c10::SymInt batch = query.sym_size(0), width = query.sym_size(1);
  ADATAPE_CHECK(weights.dim() == 3, kComponent, "expected weights [batch, steps, rows a step], got ", weights.sym_sizes());
  const c10::SymInt steps = weights.sym_size(1), rows_per_step = weights.sym_size(2);
  check_shape("weights", weights, {batch, steps, rows_per_step});
  check_shape("indices", indices, {batch, steps, rows_per_step});
  check_type("indices", indices, at::kLong);
  check_shape("lengths", lengths, {batch});
  check_type("lengths", lengths, at::kLong);
  if (grad_tokens) check_shape("grad_tokens", *grad_tokens, {batch, steps, width});
  if (grad_weights) check_shape("grad_weights", *grad_weights, {batch, steps, rows_per_step});
  if (grad_ponder) check_shape("grad_ponder", *grad_ponder, {batch});
  if (query_offset) check_query_offset(*query_offset, query, key_width);
  return {grad_tokens, grad_weights, grad_ponder, query,   bank,    bank_offsets,
          norm_weight, norm_bias,    weights,     indices, lengths, query_offset};
}

bool cpu_kernel_serves(at::ScalarType bank, at::ScalarType norm) { return (bank == at::kFloat || bank == at::kDouble) && norm == bank; }

using Forward = TapeReadResult (*)(const TapeReadInputs&, const TapeReadOptions&);
using Backward = TapeReadGradients (*)(const TapeReadBackwardInputs&, const TapeReadBackwardOptions&);

// The same, and what serves is recorded.
bool cpu_kernel_taken(at::ScalarType bank, at::ScalarType norm) {
  if (!cpu_kernel_serves(bank, norm)) {
    ADATAPE_RECORD_ONCE(record_kernel(kTapeReading, "plain calls"));
    ADATAPE_RECORD_ONCE(record_fallback(kTapeReading, "the CPU's kernel serves float32 and float64, with a norm of the same dtype"));
    return false;
  }
  if (bank == at::kFloat) {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kTapeReading, "fused", 8, "float32"));
  } else {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kTapeReading, "fused", 8, "float64"));
  }
  return true;
}

TapeReadResult forward_on_cpu(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  return (cpu_kernel_taken(inputs.bank.scalar_type(), inputs.norm_weight.scalar_type()) ? tape_read_forward_cpu
                                                                                        : tape_read_forward_reference)(inputs, options);
}

TapeReadGradients backward_on_cpu(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  return (cpu_kernel_taken(inputs.bank.scalar_type(), inputs.norm_weight.scalar_type()) ? tape_read_backward_cpu
                                                                                        : tape_read_backward_reference)(inputs, options);
}

TapeReadCudaKernels& mutable_cuda_kernels() {
  static TapeReadCudaKernels kernels;
  return kernels;
}

// Why the kernels of libadatape_cuda.so do not take a reading, or null. Only what has run on a device with right answers: packed banks of
// enough rows that every warp of the kernel has some. On shorter ones an earlier form of it read address 0; it was corrected, and agrees
// with the reference when its threads are emulated, but it was not on a device again. The tests of the kernels run all forms there; once
// they pass, the last two conditions can go. Limits of the kernels' own memory are theirs to check.
const char* cuda_refusal(const at::Tensor& bank, const OptionalTensor& bank_offsets, bool ordered) {
  if (tape_read_cuda_kernels().forward == nullptr) return "libadatape_cuda.so is not loaded";
  if (!has_cuda_kernels_on(bank.device())) return "its kernels need a device of compute capability 9.0 or above";
  if (!tape_read_cuda_serves_dtype(bank.scalar_type())) return "its kernels on CUDA serve float32, float16 and bfloat16";
  if (ordered) return "its kernels on CUDA read by a query, not in a given order";
  if (!bank_offsets) return "its kernels on CUDA serve packed banks, one bank is shared by all examples";
  if (!tape_read_rows_suffice(*bank_offsets, bank.size(0))) return "its kernels on CUDA serve 512 bank rows an example and more";
  return nullptr;
}

// The kernels record themselves, once they have looked at their limits.
bool cuda_kernel_taken(const at::Tensor& bank, const OptionalTensor& bank_offsets, bool ordered) {
  const char* const reason = cuda_refusal(bank, bank_offsets, ordered);
  if (reason == nullptr) return true;
  ADATAPE_RECORD_ONCE(record_kernel(kTapeReading, "plain calls"));
  record_fallback(kTapeReading, reason);
  return false;
}

TapeReadResult forward_on_cuda(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  return (cuda_kernel_taken(inputs.bank, inputs.bank_offsets, inputs.order.has_value()) ? tape_read_cuda_kernels().forward
                                                                                        : tape_read_forward_reference)(inputs, options);
}

TapeReadGradients backward_on_cuda(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  return (cuda_kernel_taken(inputs.bank, inputs.bank_offsets, /*ordered=*/false) ? tape_read_cuda_kernels().backward
                                                                                 : tape_read_backward_reference)(inputs, options);
}

// Shapes alone. Output sizes are fixed by B, T, K and D, so symbolic sizes pass through.
TapeReadResult forward_meta(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  const c10::SymInt batch = inputs.query.sym_size(0), width = inputs.query.sym_size(1);
  const c10::SymInt steps = options.max_steps, rows = options.rows_per_step;
  const at::TensorOptions compute = inputs.query.options().dtype(tape_read_compute_type(inputs.query.scalar_type()));
  const at::TensorOptions integer = inputs.query.options().dtype(at::kLong);
  return {at::empty_symint({batch, steps, width}, inputs.query.options()),
          at::empty_symint({batch, steps, rows}, compute),
          at::empty_symint({batch, steps, rows}, integer),
          at::empty_symint({batch}, integer),
          at::empty_symint({batch}, compute),
          at::empty_symint({batch, steps}, compute)};
}

TapeReadGradients backward_meta(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions&) {
  auto like = [](const at::Tensor& tensor) { return at::empty_symint(tensor.sym_sizes(), tensor.options()); };
  return {like(inputs.query), like(inputs.bank), like(inputs.norm_weight), like(inputs.norm_bias)};
}

template <Forward kernel>
TapeReadResult checked_forward(const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets,
                               const at::Tensor& norm_weight, const at::Tensor& norm_bias, int64_t key_width, int64_t max_steps,
                               int64_t rows_per_step, double threshold, const OptionalTensor& thresholds, const OptionalTensor& step_limits,
                               const OptionalTensor& bank_mask, const OptionalTensor& order, const OptionalTensor& query_offset,
                               std::string_view query_update, std::string_view ponder, double norm_epsilon) {
  const TapeReadInputs inputs =
      checked_inputs(query, bank, bank_offsets, norm_weight, norm_bias, key_width, max_steps, rows_per_step, threshold, thresholds,
                     step_limits, bank_mask, order, query_offset, query_update, ponder, norm_epsilon);
  return kernel(inputs, {key_width, max_steps, rows_per_step, threshold, std::string(query_update), std::string(ponder), norm_epsilon});
}

template <Backward kernel>
TapeReadGradients checked_backward(const OptionalTensor& grad_tokens, const OptionalTensor& grad_weights, const OptionalTensor& grad_ponder,
                                   const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets,
                                   const at::Tensor& norm_weight, const at::Tensor& norm_bias, const at::Tensor& weights,
                                   const at::Tensor& indices, const at::Tensor& lengths, int64_t key_width, bool fixed_order,
                                   std::string_view query_update, std::string_view ponder, double norm_epsilon,
                                   const OptionalTensor& query_offset) {
  const TapeReadBackwardInputs inputs =
      checked_backward_inputs(grad_tokens, grad_weights, grad_ponder, query, bank, bank_offsets, norm_weight, norm_bias, weights, indices,
                              lengths, key_width, query_update, ponder, norm_epsilon, query_offset);
  return kernel(inputs, {key_width, fixed_order, std::string(query_update), std::string(ponder), norm_epsilon});
}

}  // namespace

TORCH_LIBRARY(adatape, m) {
  m.def(
      "tape_read(Tensor query, Tensor bank, Tensor? bank_offsets, Tensor norm_weight, Tensor norm_bias, *, int key_width, int max_steps, "
      "int rows_per_step, float threshold, Tensor? thresholds=None, Tensor? step_limits=None, Tensor? bank_mask=None, Tensor? order=None, "
      "Tensor? query_offset=None, "
      "str query_update=\"average\", str ponder=\"entropy\", float norm_epsilon=1e-6) -> (Tensor tokens, Tensor weights, Tensor indices, "
      "Tensor lengths, Tensor ponder, Tensor halting)");
  m.def(
      "tape_read_backward(Tensor? grad_tokens, Tensor? grad_weights, Tensor? grad_ponder, Tensor query, Tensor bank, Tensor? bank_offsets, "
      "Tensor norm_weight, Tensor norm_bias, Tensor weights, Tensor indices, Tensor lengths, *, int key_width, bool fixed_order=False, "
      "str query_update=\"average\", str ponder=\"entropy\", float norm_epsilon=1e-6, Tensor? query_offset=None) -> (Tensor grad_query, "
      "Tensor grad_bank, "
      "Tensor grad_norm_weight, Tensor grad_norm_bias)");
}

TORCH_LIBRARY_IMPL(adatape, CPU, m) {
  m.impl("tape_read", &checked_forward<forward_on_cpu>);
  m.impl("tape_read_backward", &checked_backward<backward_on_cpu>);
}

TORCH_LIBRARY_IMPL(adatape, CUDA, m) {
  m.impl("tape_read", &checked_forward<forward_on_cuda>);
  m.impl("tape_read_backward", &checked_backward<backward_on_cuda>);
}

TORCH_LIBRARY_IMPL(adatape, Meta, m) {
  m.impl("tape_read", &checked_forward<forward_meta>);
  m.impl("tape_read_backward", &checked_backward<backward_meta>);
}

// Any device that has no kernel of its own; tape_read_kernel_name tells.
TORCH_LIBRARY_IMPL(adatape, CompositeExplicitAutograd, m) {
  m.impl("tape_read", &checked_forward<tape_read_forward_reference>);
  m.impl("tape_read_backward", &checked_backward<tape_read_backward_reference>);
}

TapeReadResult call_tape_read(const at::Tensor& query, const at::Tensor& bank, const OptionalTensor& bank_offsets,
                              const at::Tensor& norm_weight, const at::Tensor& norm_bias, int64_t key_width, int64_t max_steps,
                              int64_t rows_per_step, double threshold, const OptionalTensor& thresholds, const OptionalTensor& step_limits,
                              const OptionalTensor& bank_mask, const OptionalTensor& order, const OptionalTensor& query_offset,
                              std::string_view query_update, std::string_view ponder, double norm_epsilon) {
  static const auto op = c10::Dispatcher::singleton().findSchemaOrThrow("adatape::tape_read", "").typed<TapeReadSignature>();
  return op.call(query, bank, bank_offsets, norm_weight, norm_bias, key_width, max_steps, rows_per_step, threshold, thresholds, step_limits,
                 bank_mask, order, query_offset, query_update, ponder, norm_epsilon);
}

TapeReadGradients call_tape_read_backward(const OptionalTensor& grad_tokens, const OptionalTensor& grad_weights,
                                          const OptionalTensor& grad_ponder, const at::Tensor& query, const at::Tensor& bank,
                                          const OptionalTensor& bank_offsets, const at::Tensor& norm_weight, const at::Tensor& norm_bias,
                                          const at::Tensor& weights, const at::Tensor& indices, const at::Tensor& lengths,
                                          int64_t key_width, bool fixed_order, std::string_view query_update, std::string_view ponder,
                                          double norm_epsilon, const OptionalTensor& query_offset) {
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("adatape::tape_read_backward", "").typed<TapeReadBackwardSignature>();
  return op.call(grad_tokens, grad_weights, grad_ponder, query, bank, bank_offsets, norm_weight, norm_bias, weights, indices, lengths,
                 key_width, fixed_order, query_update, ponder, norm_epsilon, query_offset);
}

TapeReadResult tape_read(const at::Tensor& query, const at::Tensor& bank, const std::optional<at::Tensor>& bank_offsets,
                         const at::Tensor& norm_weight, const at::Tensor& norm_bias, const TapeReadOptions& options,
                         const std::optional<at::Tensor>& thresholds, const std::optional<at::Tensor>& step_limits,
                         const std::optional<at::Tensor>& bank_mask, const std::optional<at::Tensor>& order,
                         const std::optional<at::Tensor>& query_offset) {
  return call_tape_read(query, bank, bank_offsets, norm_weight, norm_bias, options.key_width, options.max_steps, options.rows_per_step,
                        options.threshold, thresholds, step_limits, bank_mask, order, query_offset, options.query_update, options.ponder,
                        options.norm_epsilon);
}

std::string tape_read_kernel_name(c10::Device device, at::ScalarType dtype) {
  if (device.is_cpu()) return cpu_kernel_serves(dtype, dtype) ? "cpu" : "reference";
  return tape_read_cuda_kernels().forward != nullptr && has_cuda_kernels_on(device) && tape_read_cuda_serves_dtype(dtype) ? "cuda"
                                                                                                                          : "reference";
}

bool tape_read_rows_suffice(const at::Tensor& bank_offsets, int64_t bank_rows) {
  constexpr int64_t kRows = 512;
  const int64_t batch = bank_offsets.size(0) - 1;
  if (batch <= 1 || bank_rows < kRows * batch) return bank_rows >= kRows * batch;  // known without waiting for a device
  return bank_offsets.diff().min().item<int64_t>() >= kRows;
}

const TapeReadCudaKernels& tape_read_cuda_kernels() { return mutable_cuda_kernels(); }

void set_tape_read_cuda_kernels(const TapeReadCudaKernels& kernels) { mutable_cuda_kernels() = kernels; }

void check_bank_offsets(const at::Tensor& bank_offsets, int64_t rows) {
  const at::Tensor contiguous = bank_offsets.contiguous();
  const int64_t* offsets = contiguous.const_data_ptr<int64_t>();
  const int64_t last = contiguous.numel() - 1;
  ADATAPE_CHECK(offsets[0] == 0 && offsets[last] == rows, kComponent, "expected bank_offsets from 0 to ", rows, " (rows of the bank), got ",
                offsets[0], " to ", offsets[last]);
  for (int64_t i = 0; i < last; ++i) {
    ADATAPE_CHECK(offsets[i] <= offsets[i + 1], kComponent, "expected bank_offsets that never fall, got ", offsets[i], " then ",
                  offsets[i + 1], " at example ", i);
  }
}

void check_step_limits(const at::Tensor& step_limits, int64_t max_steps) {
  const at::Tensor contiguous = step_limits.contiguous();
  const int64_t* limits = contiguous.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < contiguous.numel(); ++i) {
    ADATAPE_CHECK(limits[i] >= 0 && limits[i] <= max_steps, kComponent, "expected step_limits in 0 .. max_steps ", max_steps, ", got ",
                  limits[i], " for example ", i);
  }
}

void check_order(const at::Tensor& order, const std::optional<at::Tensor>& bank_offsets) {
  const at::Tensor contiguous = order.contiguous();
  const int64_t* values = contiguous.const_data_ptr<int64_t>();
  const int64_t batch = bank_offsets ? bank_offsets->numel() - 1 : order.size(0);
  const at::Tensor offsets = bank_offsets ? bank_offsets->contiguous() : at::Tensor();
  std::vector<bool> seen;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t first = offsets.defined() ? offsets.const_data_ptr<int64_t>()[b] : b * order.size(1);
    const int64_t rows = offsets.defined() ? offsets.const_data_ptr<int64_t>()[b + 1] - first : order.size(1);
    seen.assign(rows, false);
    for (int64_t i = first; i < first + rows; ++i) {
      ADATAPE_CHECK(values[i] >= 0 && values[i] < rows && !seen[values[i]], kComponent, "expected order to be a permutation of 0 .. ",
                    rows - 1, " for example ", b, ", got ", values[i], values[i] >= 0 && values[i] < rows ? " twice" : "");
      seen[values[i]] = true;
    }
  }
}

void check_readings(const at::Tensor& indices, const at::Tensor& lengths, const std::optional<at::Tensor>& bank_offsets,
                    int64_t bank_rows) {
  const at::Tensor read = indices.contiguous(), taken = lengths.contiguous();
  const at::Tensor offsets = bank_offsets ? bank_offsets->contiguous() : at::Tensor();
  const int64_t batch = read.size(0), steps = read.size(1), places = steps * read.size(2);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t length = taken.const_data_ptr<int64_t>()[b];
    ADATAPE_CHECK(length >= 0 && length <= steps, kComponent, "expected lengths in 0 .. ", steps, ", got ", length, " for example ", b);
    const int64_t* const bounds = offsets.defined() ? offsets.const_data_ptr<int64_t>() + b : nullptr;
    const int64_t rows = bounds ? bounds[1] - bounds[0] : bank_rows;
    for (int64_t i = 0; i < places; ++i) {
      const int64_t row = read.const_data_ptr<int64_t>()[b * places + i];
      ADATAPE_CHECK(row < rows, kComponent, "expected indices below ", rows, " (rows of example ", b, "), got ", row);
    }
  }
}

}  // namespace adatape::ops
