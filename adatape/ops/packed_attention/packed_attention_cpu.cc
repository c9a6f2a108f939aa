// adatape::packed_attention on the CPU, float32. A task is an example and a key head: its keys and values are packed once into the thread's
// cache, then its queries pass over them by blocks; for few queries they are read where they lie (packed_attention_few_queries.h). Tasks
// share nothing, so their results do not depend on who runs them.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "adatape/ops/kernel_record.h"
#include "adatape/ops/packed_attention/packed_attention_cpu_loops.h"
#include "adatape/ops/packed_attention/packed_attention_few_queries.h"
#include "adatape/ops/packed_attention/packed_attention_kernels.h"

namespace adatape::ops {
namespace cpu {
namespace {

Tokens<const float> reading(const at::Tensor& x) { return {x.const_data_ptr<float>(), x.stride(0), x.stride(1)}; }
Tokens<float> writing(const at::Tensor& x) { return {x.mutable_data_ptr<float>(), x.stride(0), x.stride(1)}; }

template <class S>
ADATAPE_ALWAYS_INLINE void forward_loop(const ForwardTask& task, Scratch& scratch) {
  const int64_t width = task.width, keys = task.keys, block = block_rows(keys);
  const int64_t scores_stride = S::padded(keys), out_stride = S::padded(width);
  scratch.begin(Scratch::needed({scores_stride * width, out_stride * keys, block * scores_stride, block * out_stride, block}));
  float *const key_panels = scratch.take(scores_stride * width), *const value_panels = scratch.take(out_stride * keys);
  float *const scores = scratch.take(block * scores_stride), *const out = scratch.take(block * out_stride),
               *const factor = scratch.take(block);
  pack_transposed<S>({task.key.data, task.key.row}, keys, width, key_panels);
  pack<S>({task.value.data, task.value.row}, keys, width, value_panels);
  for (int64_t h = 0; h < task.heads; ++h) {
    for (int64_t first = 0; first < task.queries; first += block) {
      const int64_t rows = std::min(block, task.queries - first), seen = task.visible(first + rows - 1);
      const int64_t padded = (seen + S::kLanes - 1) / S::kLanes * S::kLanes;
      multiply<S>(rows, seen, width, task.query.data + first * task.query.row + h * task.query.head, task.query.row, 1, key_panels, width,
                  scores, scores_stride, false);
      for (int64_t i = 0; i < rows; ++i) {
        float sum, *const row = scores + i * scores_stride;
        task.logsumexp[h * task.logsumexp_head + first + i] =
            exponentials<S>(row, task.visible(first + i), padded, task.scale, sum,
                            [row](int64_t j, const typename S::Floats& x) ADATAPE_INLINE_LAMBDA { S::store(row + j, x); });
        factor[i] = 1 / sum;
      }
      multiply<S>(rows, width, seen, scores, scores_stride, 1, value_panels, keys, out, out_stride, false);
      for (int64_t i = 0; i < rows; ++i) {
        float* const to = task.output.data + (first + i) * task.output.row + h * task.output.head;
        const float* const from = out + i * out_stride;
        const float f = factor[i];
#pragma omp simd
        for (int64_t c = 0; c < width; ++c) to[c] = from[c] * f;
      }
    }
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void backward_loop(const BackwardTask& task, Scratch& scratch) {
  const int64_t width = task.width, keys = task.keys, block = block_rows(keys);
  const int64_t scores_stride = S::padded(keys), stride = S::padded(width);
  scratch.begin(Scratch::needed({scores_stride * width, scores_stride * width, stride * keys, stride * keys, stride * keys,
                                 block * scores_stride, block * scores_stride, block * stride, block * stride, block * stride}));
  float *const keys_across = scratch.take(scores_stride * width), *const values_across = scratch.take(scores_stride * width);
  float* const key_panels = scratch.take(stride * keys);
  float *const grad_key = scratch.take(stride * keys), *const grad_value = scratch.take(stride * keys);
  float *const scores = scratch.take(block * scores_stride), *const grad_scores = scratch.take(block * scores_stride);
  float *const query_panels = scratch.take(block * stride), *const grad_panels = scratch.take(block * stride);
  float* const grad_query = scratch.take(block * stride);
  pack_transposed<S>({task.key.data, task.key.row}, keys, width, keys_across);
  pack_transposed<S>({task.value.data, task.value.row}, keys, width, values_across);
  pack<S>({task.key.data, task.key.row}, keys, width, key_panels);
  std::fill_n(grad_key, stride * keys, 0.0f);
  std::fill_n(grad_value, stride * keys, 0.0f);
  for (int64_t h = 0; h < task.heads; ++h) {
    for (int64_t first = 0; first < task.queries; first += block) {
      const int64_t rows = std::min(block, task.queries - first), seen = task.visible(first + rows - 1);
      const int64_t padded = (seen + S::kLanes - 1) / S::kLanes * S::kLanes;
      const float* const query = task.query.data + first * task.query.row + h * task.query.head;
      const float* const grad = task.grad_output.data + first * task.grad_output.row + h * task.grad_output.head;
      const float* const output = task.output.data + first * task.output.row + h * task.output.head;
      multiply<S>(rows, seen, width, query, task.query.row, 1, keys_across, width, scores, scores_stride, false);
      multiply<S>(rows, seen, width, grad, task.grad_output.row, 1, values_across, width, grad_scores, scores_stride, false);
      for (int64_t i = 0; i < rows; ++i) {
        float delta = 0;
#pragma omp simd reduction(+ : delta)
        for (int64_t c = 0; c < width; ++c) delta += grad[i * task.grad_output.row + c] * output[i * task.output.row + c];
        softmax_backward<S>(scores + i * scores_stride, grad_scores + i * scores_stride, task.visible(first + i), padded, task.scale,
                            task.logsumexp[h * task.logsumexp_head + first + i], delta);
      }
      pack<S>({query, task.query.row}, rows, width, query_panels);
      pack<S>({grad, task.grad_output.row}, rows, width, grad_panels);
      multiply<S>(seen, width, rows, scores, 1, scores_stride, grad_panels, rows, grad_value, stride, true);
      multiply<S>(seen, width, rows, grad_scores, 1, scores_stride, query_panels, rows, grad_key, stride, true);
      multiply<S>(rows, width, seen, grad_scores, scores_stride, 1, key_panels, keys, grad_query, stride, false);
      for (int64_t i = 0; i < rows; ++i) {
        copy_floats(grad_query + i * stride, width, task.grad_query.data + (first + i) * task.grad_query.row + h * task.grad_query.head);
      }
    }
  }
  for (int64_t j = 0; j < keys; ++j) {
    copy_floats(grad_key + j * stride, width, task.grad_key.data + j * task.grad_key.row);
    copy_floats(grad_value + j * stride, width, task.grad_value.data + j * task.grad_value.row);
  }
}

ADATAPE_CPU_CLONES void forward_narrow(const ForwardTask& task, Scratch& scratch) { forward_loop<Simd<8>>(task, scratch); }
ADATAPE_CPU_CLONES void backward_narrow(const BackwardTask& task, Scratch& scratch) { backward_loop<Simd<8>>(task, scratch); }
ADATAPE_CPU_AVX512 void forward_wide(const ForwardTask& task, Scratch& scratch) { forward_loop<Simd<16>>(task, scratch); }
ADATAPE_CPU_AVX512 void backward_wide(const BackwardTask& task, Scratch& scratch) { backward_loop<Simd<16>>(task, scratch); }

ADATAPE_CPU_CLONES void forward_few_narrow(const ForwardTask& task, Scratch& scratch) { forward_few<Simd<8>>(task, scratch); }
ADATAPE_CPU_CLONES void backward_few_narrow(const BackwardTask& task, Scratch& scratch) { backward_few<Simd<8>>(task, scratch); }
ADATAPE_CPU_AVX512 void forward_few_wide(const ForwardTask& task, Scratch& scratch) { forward_few<Simd<16>>(task, scratch); }
ADATAPE_CPU_AVX512 void backward_few_wide(const BackwardTask& task, Scratch& scratch) { backward_few<Simd<16>>(task, scratch); }

void forward_by_vectors_of_8(const ForwardTask& task, Scratch& scratch) { (task.few ? forward_few_narrow : forward_narrow)(task, scratch); }
void forward_by_vectors_of_16(const ForwardTask& task, Scratch& scratch) {
  (!task.few ? forward_wide : task.width % 16 == 0 ? forward_few_wide : forward_few_narrow)(task, scratch);
}
void backward_by_vectors_of_8(const BackwardTask& task, Scratch& scratch) {
  (task.few ? backward_few_narrow : backward_narrow)(task, scratch);
}
void backward_by_vectors_of_16(const BackwardTask& task, Scratch& scratch) {
  (!task.few ? backward_wide : task.width % 16 == 0 ? backward_few_wide : backward_few_narrow)(task, scratch);
}

template <class AnyTask>
void record_tasks(const std::vector<AnyTask>& tasks, bool by_vectors_of_16) {
  for (const AnyTask& task : tasks) {
    if (by_vectors_of_16 && (!task.few || task.width % 16 == 0)) {
      ADATAPE_RECORD_ONCE(record_cpu_kernel(kAttention, "packed", 16));
    } else {
      ADATAPE_RECORD_ONCE(record_cpu_kernel(kAttention, "packed", 8));
    }
  }
}

// Each thread begins with its share of the rows, which are those that it multiplied before and will multiply next, so that they lie in
// its core's cache; then it helps the others, because examples differ in length. What is too small to wake a thread for runs on this one.
template <class AnyTask>
void run_all(const std::vector<AnyTask>& tasks, void (*run)(const AnyTask&, Scratch&)) {
  int64_t products = 0, rows = 0;  // products: multiply-adds of one of the matrix products
  for (const AnyTask& task : tasks) {
    products += task.heads * task.queries * task.keys * task.width;
    rows += task.heads * task.queries;
  }
  constexpr int64_t kWorthAThread = 1 << 18;
  const int64_t threads = std::min<int64_t>({at::get_num_threads(), products / kWorthAThread + 1, static_cast<int64_t>(tasks.size())});
  if (threads <= 1) {
    Scratch scratch;
    for (const AnyTask& task : tasks) run(task, scratch);
    return;
  }
  struct Share {
    std::atomic<size_t> next{0};
    size_t end = 0;
  };
  std::vector<Share> shares(static_cast<size_t>(threads));
  int64_t passed = 0;
  size_t share = 0;
  for (size_t i = 0; i < tasks.size(); ++i) {
    while (share + 1 < shares.size() && passed * threads >= rows * static_cast<int64_t>(share + 1)) {
      shares[share].end = i;
      shares[++share].next = i;
    }
    passed += tasks[i].heads * tasks[i].queries;
  }
  shares[share].end = tasks.size();
  for (++share; share < shares.size(); ++share) shares[share].next = shares[share].end = tasks.size();
  at::parallel_for(0, threads, 1, [&](int64_t own, int64_t) {
    Scratch scratch;
    for (size_t k = 0; k < shares.size(); ++k) {
      Share& from = shares[(static_cast<size_t>(own) + k) % shares.size()];
      for (size_t i = from.next++; i < from.end; i = from.next++) run(tasks[i], scratch);
    }
  });
}

// Calls each(task, first query token, first key token, first query head, key head) with the fields of Task filled.
template <class AnyTask, class Each>
void for_each_task(const PackedAttentionInputs& inputs, const PackedAttentionOptions& options, int64_t parts, const Each& each) {
  const at::Tensor query_offsets = inputs.query_offsets.contiguous(), key_offsets = inputs.key_offsets.contiguous();
  const int64_t key_heads = inputs.key.size(1), group = key_heads == 0 ? 0 : inputs.query.size(1) / key_heads;
  const auto moved = [](Tokens<const float> x, int64_t token, int64_t head) {
    x.data += token * x.row + head * x.head;
    return x;
  };
  const int64_t examples = query_offsets.numel() - 1, query_tokens = inputs.query.size(0), width = inputs.query.size(2);
  const int64_t *const query_starts = query_offsets.const_data_ptr<int64_t>(), *const key_starts = key_offsets.const_data_ptr<int64_t>();
  const Tokens<const float> query = reading(inputs.query), key = reading(inputs.key), value = reading(inputs.value);
  for (int64_t b = 0; b < examples; ++b) {
    const int64_t first_query = query_starts[b], first_key = key_starts[b];
    const int64_t queries = query_starts[b + 1] - first_query, keys = key_starts[b + 1] - first_key;
    const int64_t part = std::max<int64_t>((queries + parts - 1) / parts, block_rows(keys));
    for (int64_t key_head = 0; key_head < key_heads; ++key_head) {
      for (int64_t from = 0; from < std::max<int64_t>(queries, 1); from += part) {
        AnyTask task;
        task.heads = group;
        task.width = width;
        task.queries = std::min(part, queries - from);
        task.keys = keys;
        task.first_visible = options.causal ? keys - queries + from + 1 : -1;
        task.few = group > 0 && queries > 0 && queries <= kFewQueries;
        task.scale = static_cast<float>(options.scale);
        task.query = moved(query, first_query + from, key_head * group);
        task.key = moved(key, first_key, key_head);
        task.value = moved(value, first_key, key_head);
        task.logsumexp_head = query_tokens;
        each(task, first_query + from, first_key, key_head * group, key_head);
      }
    }
  }
}

at::Tensor last_stride_one(const at::Tensor& x) { return x.stride(2) == 1 ? x : x.contiguous(); }

PackedAttentionInputs readable(const PackedAttentionInputs& in) {
  return {last_stride_one(in.query), last_stride_one(in.key), last_stride_one(in.value), in.query_offsets, in.key_offsets};
}

}  // namespace
}  // namespace cpu

PackedAttentionResult packed_attention_forward_cpu(const PackedAttentionInputs& given, const PackedAttentionOptions& options,
                                                   int vector_bytes, at::ScalarType products) {
  check_attention_offsets(given, options.causal);
  const PackedAttentionInputs inputs = cpu::readable(given);
  const int64_t tokens = inputs.query.size(0), heads = inputs.query.size(1);
  at::Tensor output = at::empty({tokens, heads, inputs.query.size(2)}, inputs.query.options());
  at::Tensor logsumexp = at::empty({heads, tokens}, inputs.query.options());
  // Examples and heads are tasks enough for most batches; a single long sequence is cut further.
  const int64_t whole = std::max<int64_t>((inputs.query_offsets.numel() - 1) * inputs.key.size(1), 1);
  const int64_t parts = at::get_num_threads() > 1 ? (4 * at::get_num_threads() + whole - 1) / whole : 1;
  const cpu::Tokens<float> to = cpu::writing(output);
  float* const sums = logsumexp.mutable_data_ptr<float>();
  std::vector<cpu::ForwardTask> tasks;
  cpu::for_each_task<cpu::ForwardTask>(inputs, options, parts, [&](cpu::ForwardTask& task, int64_t token, int64_t, int64_t head, int64_t) {
    if (task.queries == 0) return;
    task.output = to;
    task.output.data += token * to.row + head * to.head;
    task.logsumexp = sums + head * tokens + token;
    tasks.push_back(task);
  });
  const bool wide = vector_bytes != 32 && cpu::has_avx512();
  if (products == at::kBFloat16) {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kAttention, "packed", 16, "bfloat16"));
  } else {
    cpu::record_tasks(tasks, wide);
  }
  cpu::run_all(tasks, products == at::kBFloat16 ? cpu::run_bfloat16 : wide ? cpu::forward_by_vectors_of_16 : cpu::forward_by_vectors_of_8);
  return {output, logsumexp};
}

void packed_attention_backward_cpu(const PackedAttentionInputs& given, const PackedAttentionSaved& saved,
                                   const PackedAttentionOptions& options, const PackedAttentionGradients& gradients, int vector_bytes) {
  check_attention_offsets(given, options.causal);
  const PackedAttentionInputs inputs = cpu::readable(given);
  const at::Tensor output = cpu::last_stride_one(saved.output), grad_output = cpu::last_stride_one(saved.grad_output);
  const at::Tensor logsumexp = saved.logsumexp.contiguous();
  const cpu::Tokens<const float> out = cpu::reading(output), grad_out = cpu::reading(grad_output);
  const cpu::Tokens<float> of_query = cpu::writing(gradients.query), of_key = cpu::writing(gradients.key),
                           of_value = cpu::writing(gradients.value);
  const float* const sums = logsumexp.const_data_ptr<float>();
  const int64_t tokens = inputs.query.size(0);
  const auto moved = [](auto x, int64_t row, int64_t at_head) {
    x.data += row * x.row + at_head * x.head;
    return x;
  };
  std::vector<cpu::BackwardTask> tasks;
  cpu::for_each_task<cpu::BackwardTask>(inputs, options, 1,
                                        [&](cpu::BackwardTask& task, int64_t token, int64_t key_token, int64_t head, int64_t key_head) {
                                          task.output = moved(out, token, head);
                                          task.grad_output = moved(grad_out, token, head);
                                          task.logsumexp = sums + head * tokens + token;
                                          task.grad_query = moved(of_query, token, head);
                                          task.grad_key = moved(of_key, key_token, key_head);
                                          task.grad_value = moved(of_value, key_token, key_head);
                                          tasks.push_back(task);
                                        });
  const bool wide = vector_bytes != 32 && cpu::has_avx512();
  cpu::record_tasks(tasks, wide);
  cpu::run_all(tasks, wide ? cpu::backward_by_vectors_of_16 : cpu::backward_by_vectors_of_8);
}

}  // namespace adatape::ops
