// The gradient of adatape::tape_read on the CPU, float and double: statistics, values and queries are computed again for the rows read.
// Sums run in the order of examples, steps and rows, so results do not depend on the number of threads.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "adatape/ops/tape_read/tape_read_cpu_loops.h"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {
namespace cpu {
namespace {

// One example: what was read, what came back, where gradients go.
template <class T>
struct BackwardExample {
  const T *query, *query_offset, *rows;  // [D]; [d] or none; row j at rows + j * stride
  int64_t stride, width, key_width, rows_per_step, length;
  const T *norm_weight, *norm_bias;
  T epsilon;
  const T* weights;                                   // [T, K]
  const int64_t* indices;                             // [T, K]
  const T *grad_tokens, *grad_weights, *grad_ponder;  // [T, D], [T, K], [1]; each may be none
  bool fixed_order, average, entropy;
  T *grad_query, *grad_norm_weight, *grad_norm_bias;  // [D] each; the norm's start at zero
  T* grad_rows;  // of row j at grad_rows + j * D; of the i-th row of step t at grad_rows + (t K + i) D if by_place
  bool by_place;
  const T* next_rows;  // of the example after this one, next_lines lines of the cache and as many at next_grad_rows; none if 0
  T* next_grad_rows;
  int64_t next_lines;
};

template <class T>
struct BackwardScratch {
  std::vector<RowNorm<T>> norms;                                          // [n K]
  std::vector<T> queries;                                                 // [n, d]
  std::vector<T> grad_query_key;                                          // [d]
  std::vector<T> grad_token, grad_scaled_token, grad_value, grad_scaled;  // [D]
  std::vector<T> scaled;                                                  // [K, D]
  std::vector<T> grad_scores, products;                                   // [K]
};

// From the gradient of a LayerNorm's output: that of its input, and the additions to those of weight and bias.
template <class T>
ADATAPE_ALWAYS_INLINE void norm_backward(const T* grad, const T* scaled, T inverse_deviation, const T* weight, int64_t width,
                                         T* grad_scaled, T* grad_input, T* grad_weight, T* grad_bias) {
#pragma omp simd
  for (int64_t f = 0; f < width; ++f) {
    grad_scaled[f] = grad[f] * weight[f];
    grad_weight[f] += grad[f] * scaled[f];
    grad_bias[f] += grad[f];
  }
  const T mean = sum(grad_scaled, width) / static_cast<T>(width), slope = dot(grad_scaled, scaled, width) / static_cast<T>(width);
#pragma omp simd
  for (int64_t f = 0; f < width; ++f) grad_input[f] = inverse_deviation * (grad_scaled[f] - mean - scaled[f] * slope);
}

template <class T>
ADATAPE_ALWAYS_INLINE void normalise_row(const T* row, const RowNorm<T>& norm, int64_t width, T* scaled) {
#pragma omp simd
  for (int64_t f = 0; f < width; ++f) scaled[f] = (row[f] - norm.mean) * norm.inverse_deviation;
}

// Asks for a share of the next example's rows and of where their gradients go: they are visited in no order that the processor foresees.
template <class T>
ADATAPE_ALWAYS_INLINE void prefetch_next(const BackwardExample<T>& e, int64_t step) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  for (int64_t line = e.next_lines * step / e.length; line < e.next_lines * (step + 1) / e.length; ++line) {
    __builtin_prefetch(e.next_rows + line * kLine);
    __builtin_prefetch(e.next_grad_rows + line * kLine, 1);
  }
}

template <class T>
ADATAPE_ALWAYS_INLINE void backward_loop(const BackwardExample<T>& e, BackwardScratch<T>& scratch) {
  const int64_t width = e.width, d = e.key_width, rows_per_step = e.rows_per_step, n = e.length;
  const T *const weight = e.norm_weight, *const bias = e.norm_bias;
  scratch.norms.resize(n * rows_per_step);
  scratch.queries.resize((n + 1) * d);
  scratch.grad_query_key.assign(d, 0);
  for (std::vector<T>* row : {&scratch.grad_token, &scratch.grad_scaled_token, &scratch.grad_value, &scratch.grad_scaled})
    row->resize(width);
  scratch.scaled.resize(rows_per_step * width);
  scratch.grad_scores.assign(rows_per_step, 0);
  scratch.products.resize(rows_per_step);
  T* const grad_query_key = scratch.grad_query_key.data();

  // Statistics of the rows read, and the queries again, first to last.
  const RowNorm<T> query_norm = row_norm(e.query, width, e.epsilon);
  T* query = scratch.queries.data();
  for (int64_t f = 0; f < d; ++f) query[f] = (e.query[f] - query_norm.mean) * query_norm.inverse_deviation * weight[f] + bias[f];
  for (int64_t f = 0; f < d && e.query_offset; ++f) query[f] += e.query_offset[f];
  for (int64_t t = 0; t < n; ++t, query += d) {
    T* const next = query + d;
    std::fill_n(next, d, T(0));
    for (int64_t i = t * rows_per_step; i < (t + 1) * rows_per_step && e.indices[i] >= 0; ++i) {
      const T* const row = e.rows + e.indices[i] * e.stride;
      const RowNorm<T> norm = scratch.norms[i] = row_norm(row, width, e.epsilon);
      for (int64_t f = 0; f < d; ++f) next[f] += e.weights[i] * ((row[f] - norm.mean) * norm.inverse_deviation * weight[f] + bias[f]);
    }
    if (e.average) {
      for (int64_t f = 0; f < d; ++f) next[f] = (query[f] + next[f]) / 2;
    }
  }

  const T scale = 1 / std::sqrt(static_cast<T>(d)), from_query = e.average ? T(0.5) : T(1), inverse_width = 1 / static_cast<T>(width);
  for (int64_t t = n - 1; t >= 0; --t) {
    const T* const w = e.weights + t * rows_per_step;
    const int64_t* const indices = e.indices + t * rows_per_step;
    const T* const step_query = scratch.queries.data() + t * d;
    int64_t count = 0;
    while (count < rows_per_step && indices[count] >= 0) ++count;
    prefetch_next(e, n - 1 - t);
    T *const grad_token = scratch.grad_token.data(), *const grad_scaled_token = scratch.grad_scaled_token.data();
    if (e.grad_tokens) {
      std::copy_n(e.grad_tokens + t * width, width, grad_token);
    } else {
      std::fill_n(grad_token, width, T(0));
    }
    for (int64_t f = 0; f < d && !e.fixed_order; ++f) grad_token[f] += from_query * grad_query_key[f];
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) grad_scaled_token[f] = grad_token[f] * weight[f];
    for (int64_t i = 0; i < count; ++i) {
      T* const scaled = scratch.scaled.data() + i * width;
      normalise_row(e.rows + indices[i] * e.stride, scratch.norms[t * rows_per_step + i], width, scaled);
      scratch.products[i] = dot(grad_scaled_token, scaled, width);
    }

    if (!e.fixed_order) {
      const T constant = dot(grad_token, bias, width);
      T mean = 0;
      for (int64_t i = 0; i < count; ++i) {
        T grad_w = scratch.products[i] + constant;
        if (e.grad_weights) grad_w += e.grad_weights[t * rows_per_step + i];
        if (e.grad_ponder) {
          if (e.entropy) {
            grad_w -= 2 * w[i] * *e.grad_ponder;
          } else if (i == 0) {
            grad_w -= *e.grad_ponder;
          }
        }
        scratch.grad_scores[i] = grad_w;
        mean += w[i] * grad_w;
      }
      for (int64_t f = 0; f < d; ++f) grad_query_key[f] = e.average ? grad_query_key[f] / 2 : T(0);
      for (int64_t i = 0; i < count; ++i) {
        const T grad_score = scratch.grad_scores[i] = w[i] * (scratch.grad_scores[i] - mean) * scale;
        const T* const scaled = scratch.scaled.data() + i * width;
        for (int64_t f = 0; f < d; ++f) grad_query_key[f] += grad_score * (scaled[f] * weight[f] + bias[f]);
      }
    }

    // Row i's normalised value has the gradient w_i grad_token, and its first d features grad_score_i query besides. The two sums that the
    // norm's gradient needs are therefore known but for a few features: nothing is added across lanes once more.
    const T token_sum = sum(grad_scaled_token, width);
    T query_sum = 0, total_weight = 0;
    for (int64_t f = 0; f < d && !e.fixed_order; ++f) query_sum += step_query[f] * weight[f];
    for (int64_t i = 0; i < count; ++i) {
      const T* const scaled = scratch.scaled.data() + i * width;
      T* const grad_row = e.grad_rows + (e.by_place ? t * rows_per_step + i : indices[i]) * width;
      const T weight_i = w[i], grad_score = e.fixed_order ? T(0) : scratch.grad_scores[i];
      const T deviation = scratch.norms[t * rows_per_step + i].inverse_deviation;
      T query_product = 0;
      for (int64_t f = 0; f < d && !e.fixed_order; ++f) query_product += step_query[f] * weight[f] * scaled[f];
      const T mean = (weight_i * token_sum + grad_score * query_sum) * inverse_width;
      const T slope = (weight_i * scratch.products[i] + grad_score * query_product) * inverse_width;
      T* const grad_norm_weight = e.grad_norm_weight;
#pragma omp simd
      for (int64_t f = 0; f < width; ++f) {
        grad_norm_weight[f] += weight_i * grad_token[f] * scaled[f];
        grad_row[f] = deviation * (weight_i * grad_scaled_token[f] - mean - scaled[f] * slope);
      }
      for (int64_t f = 0; f < d && !e.fixed_order; ++f) {
        const T through_score = grad_score * step_query[f];
        grad_norm_weight[f] += through_score * scaled[f];
        e.grad_norm_bias[f] += through_score;
        grad_row[f] += deviation * through_score * weight[f];
      }
      total_weight += weight_i;
    }
    T* const grad_norm_bias = e.grad_norm_bias;
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) grad_norm_bias[f] += total_weight * grad_token[f];
  }

  std::copy_n(grad_query_key, d, scratch.grad_value.data());
  std::fill(scratch.grad_value.begin() + d, scratch.grad_value.end(), T(0));
  normalise_row(e.query, query_norm, width, scratch.scaled.data());
  norm_backward(scratch.grad_value.data(), scratch.scaled.data(), query_norm.inverse_deviation, weight, width, scratch.grad_scaled.data(),
                e.grad_query, e.grad_norm_weight, e.grad_norm_bias);
}

ADATAPE_CPU_CLONES void backward_example(const BackwardExample<float>& e, BackwardScratch<float>& scratch) { backward_loop(e, scratch); }
ADATAPE_CPU_CLONES void backward_example(const BackwardExample<double>& e, BackwardScratch<double>& scratch) { backward_loop(e, scratch); }

// Zeros whose pages the system hands out when they are touched: of a bank's gradient few rows are.
at::Tensor lazy_zeros(at::IntArrayRef sizes, const at::TensorOptions& options) {
  constexpr size_t kAlignment = 64, kLarge = size_t{1} << 20;
  const size_t bytes = c10::multiply_integers(sizes) * options.dtype().itemsize();
  if (bytes < kLarge) return at::zeros(sizes, options);
  void* const memory = std::calloc(bytes + kAlignment, 1);
  if (!memory) return at::zeros(sizes, options);  // torch's allocator reports it better
  const size_t address = reinterpret_cast<size_t>(memory);
  void* const data = static_cast<char*>(memory) + (kAlignment - address % kAlignment) % kAlignment;
  return at::from_blob(
      data, sizes, [memory](void*) { std::free(memory); }, options);
}

constexpr int64_t kAsked = 4096;  // numbers of a bank that is asked for whole, before it is read

template <class T>
TapeReadGradients backward(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  const int64_t batch = inputs.weights.size(0), steps = inputs.weights.size(1), rows_per_step = inputs.weights.size(2);
  const int64_t bank_rows = inputs.bank.size(0), width = inputs.bank.size(1);
  const at::Tensor query = inputs.query.contiguous(), norm_weight = inputs.norm_weight.contiguous();
  const at::Tensor bank = inputs.bank.stride(1) == 1 ? inputs.bank : inputs.bank.contiguous(), norm_bias = inputs.norm_bias.contiguous();
  const at::Tensor weights = inputs.weights.to(bank.scalar_type()).contiguous(), indices = inputs.indices.contiguous();
  const at::Tensor lengths = inputs.lengths.contiguous(), offsets = inputs.bank_offsets ? inputs.bank_offsets->contiguous() : at::Tensor();
  auto converted = [&](const std::optional<at::Tensor>& given) {
    return given ? given->to(bank.scalar_type()).contiguous() : at::Tensor();
  };
  const at::Tensor grad_tokens = converted(inputs.grad_tokens), grad_weights = converted(inputs.grad_weights);
  const at::Tensor grad_ponder = converted(inputs.grad_ponder);
  const at::Tensor query_offset = converted(inputs.query_offset);
  const bool packed = offsets.defined();
  if (packed) check_bank_offsets(offsets, bank_rows);
  check_readings(indices, lengths, inputs.bank_offsets, bank_rows);

  const at::TensorOptions real = query.options();
  at::Tensor grad_query = at::empty({batch, width}, real), grad_bank = lazy_zeros({bank_rows, width}, real);
  at::Tensor grad_norm_weights = at::zeros({batch, width}, real), grad_norm_biases = at::zeros({batch, width}, real);  // summed below
  // A shared bank's rows are read by several examples: their gradients wait here, to be added in order.
  at::Tensor waiting = packed ? at::Tensor() : at::empty({batch, steps * rows_per_step, width}, real);
  T* const grad_rows = packed ? grad_bank.mutable_data_ptr<T>() : waiting.mutable_data_ptr<T>();
  at::parallel_for(0, batch, grain(4 * steps * rows_per_step * width), [&](int64_t begin, int64_t end) {
    BackwardScratch<T> scratch;
    for (int64_t b = begin; b < end; ++b) {
      const int64_t first = packed ? offsets.const_data_ptr<int64_t>()[b] : 0;
      const int64_t next = packed && b + 1 < end ? offsets.const_data_ptr<int64_t>()[b + 1] : 0;
      const int64_t next_rows = packed && b + 1 < end ? offsets.const_data_ptr<int64_t>()[b + 2] - next : 0;
      const BackwardExample<T> example{
          .query = query.const_data_ptr<T>() + b * width,
          .query_offset = query_offset.defined() ? query_offset.const_data_ptr<T>() + b * options.key_width : nullptr,
          .rows = bank.const_data_ptr<T>() + first * bank.stride(0),
          .stride = bank.stride(0),
          .width = width,
          .key_width = options.key_width,
          .rows_per_step = rows_per_step,
          .length = lengths.const_data_ptr<int64_t>()[b],
          .norm_weight = norm_weight.const_data_ptr<T>(),
          .norm_bias = norm_bias.const_data_ptr<T>(),
          .epsilon = static_cast<T>(options.norm_epsilon),
          .weights = weights.const_data_ptr<T>() + b * steps * rows_per_step,
          .indices = indices.const_data_ptr<int64_t>() + b * steps * rows_per_step,
          .grad_tokens = grad_tokens.defined() ? grad_tokens.const_data_ptr<T>() + b * steps * width : nullptr,
          .grad_weights = grad_weights.defined() ? grad_weights.const_data_ptr<T>() + b * steps * rows_per_step : nullptr,
          .grad_ponder = grad_ponder.defined() ? grad_ponder.const_data_ptr<T>() + b : nullptr,
          .fixed_order = options.fixed_order,
          .average = options.query_update == "average",
          .entropy = options.ponder == "entropy",
          .grad_query = grad_query.mutable_data_ptr<T>() + b * width,
          .grad_norm_weight = grad_norm_weights.mutable_data_ptr<T>() + b * width,
          .grad_norm_bias = grad_norm_biases.mutable_data_ptr<T>() + b * width,
          .grad_rows = grad_rows + (packed ? first : b * steps * rows_per_step) * width,
          .by_place = !packed,
          .next_rows = bank.const_data_ptr<T>() + next * bank.stride(0),
          .next_grad_rows = grad_rows + next * width,
          .next_lines =
              next_rows * width <= kAsked && bank.stride(0) == width ? next_rows * width * static_cast<int64_t>(sizeof(T)) / 64 : 0,
      };
      backward_example(example, scratch);
    }
  });

  at::Tensor grad_norm_weight = at::zeros({width}, real), grad_norm_bias = at::zeros({width}, real);
  const int64_t added = batch * (packed ? 2 : 2 + steps * rows_per_step);  // elements a feature costs
  T *const to_weight = grad_norm_weight.mutable_data_ptr<T>(), *const to_bias = grad_norm_bias.mutable_data_ptr<T>(),
           *const to_bank = grad_bank.mutable_data_ptr<T>();
  const T *const weight_parts = grad_norm_weights.const_data_ptr<T>(), *const bias_parts = grad_norm_biases.const_data_ptr<T>();
  const int64_t *const read_lengths = lengths.const_data_ptr<int64_t>(), *const read_indices = indices.const_data_ptr<int64_t>();
  at::parallel_for(0, width, std::max<int64_t>(grain(added), 16),
                   [&](int64_t begin, int64_t end) {  // a thread owns some features and adds examples in order
                     for (int64_t b = 0; b < batch; ++b) {
#pragma omp simd
                       for (int64_t f = begin; f < end; ++f) to_weight[f] += weight_parts[b * width + f];
#pragma omp simd
                       for (int64_t f = begin; f < end; ++f) to_bias[f] += bias_parts[b * width + f];
                     }
                     if (packed) return;
                     for (int64_t b = 0; b < batch; ++b) {
                       const int64_t first = b * steps * rows_per_step;
                       for (int64_t i = first; i < first + read_lengths[b] * rows_per_step; ++i) {
                         const int64_t row = read_indices[i];
                         if (row < 0) continue;
                         const T* const from = grad_rows + i * width;
#pragma omp simd
                         for (int64_t f = begin; f < end; ++f) to_bank[row * width + f] += from[f];
                       }
                     }
                   });
  return {grad_query, grad_bank, grad_norm_weight, grad_norm_bias};
}

}  // namespace
}  // namespace cpu

TapeReadGradients tape_read_backward_cpu(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  return inputs.bank.scalar_type() == at::kDouble ? cpu::backward<double>(inputs, options) : cpu::backward<float>(inputs, options);
}

}  // namespace adatape::ops
