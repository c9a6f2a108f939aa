// Attention of an example with few queries, as after a last block that only the class token reads, or while text is generated symbol by
// symbol: keys and values are passed over where they lie, where packing them first would cost more than it saves.
#pragma once

#include <algorithm>

#include "adatape/ops/packed_attention/packed_attention_cpu_loops.h"

namespace adatape::ops::cpu {

constexpr int64_t kFewQueries = 3;  // of an example

// sums[i] = the sum of the lanes of x[i].
ADATAPE_ALWAYS_INLINE void sums_of_eight(const Simd<8>::Floats (&x)[8], Simd<8>::Floats& sums) {
  Simd<8>::Floats two[4], four[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    two[i] = __builtin_shufflevector(x[2 * i], x[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
             __builtin_shufflevector(x[2 * i], x[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    four[i] = __builtin_shufflevector(two[2 * i], two[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
              __builtin_shufflevector(two[2 * i], two[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
  sums = __builtin_shufflevector(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11) +
         __builtin_shufflevector(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

ADATAPE_ALWAYS_INLINE void eight_lanes(const Simd<8>::Floats& x, Simd<8>::Floats& to) { to = x; }
ADATAPE_ALWAYS_INLINE void eight_lanes(const Simd<16>::Floats& x, Simd<8>::Floats& to) {
  to = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
}

// products[j] = vector . row j, for `count` rows; written up to the next multiple of eight.
template <class S>
ADATAPE_ALWAYS_INLINE void products_with(const float* vector, const Rows& rows, int64_t count, int64_t width, float* products) {
  // Rows of one head lie far apart, which the processor does not foresee: those of the next round are asked for.
  for (int64_t j = 0; j < count; j += 8) {
    typename S::Floats sums[8] = {}, a, b;
    for (int64_t c = 0; c < width; c += S::kLanes) {
      load_part<S>(a, vector + c, width - c);
#pragma GCC unroll 8
      for (int i = 0; i < 8; ++i) {
        load_part<S>(b, rows.data + std::min(j + i, count - 1) * rows.stride + c, width - c);
        __builtin_prefetch(rows.data + std::min(j + i + 8, count - 1) * rows.stride + c);
        sums[i] += a * b;
      }
    }
    Simd<8>::Floats halves[8], result;
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) eight_lanes(sums[i], halves[i]);
    sums_of_eight(halves, result);
    Simd<8>::store(products + j, result);
  }
}

// out = factor times the sum over j of weights[j] row j.
template <class S>
ADATAPE_ALWAYS_INLINE void weighted_sum(const float* weights, const Rows& rows, int64_t count, int64_t width, float factor, float* out) {
  for (int64_t c = 0; c < width; c += S::kLanes) {
    typename S::Floats sums[4] = {}, x;  // one would wait for itself
    int64_t j = 0;
    for (; j + 4 <= count; j += 4) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        load_part<S>(x, rows.data + (j + i) * rows.stride + c, width - c);
        __builtin_prefetch(rows.data + std::min(j + i + 8, count - 1) * rows.stride + c);
        sums[i] += x * weights[j + i];
      }
    }
    for (; j < count; ++j) {
      load_part<S>(x, rows.data + j * rows.stride + c, width - c);
      sums[0] += x * weights[j];
    }
    store_part<S>(out + c, ((sums[0] + sums[1]) + (sums[2] + sums[3])) * factor, width - c);
  }
}

// Row j of `rows` = weights[j] times the vector, or that much more.
template <class S>
ADATAPE_ALWAYS_INLINE void outer_product(const float* weights, const float* vector, int64_t count, int64_t width, float* rows,
                                         int64_t stride, bool add) {
  for (int64_t c = 0; c < width; c += S::kLanes) {
    typename S::Floats x, sum;
    load_part<S>(x, vector + c, width - c);
    for (int64_t j = 0; j < count; ++j) {
      float* const to = rows + j * stride + c;
      sum = x * weights[j];
      if (add) {
        typename S::Floats old;
        load_part<S>(old, to, width - c);
        sum += old;
      }
      store_part<S>(to, sum, width - c);
    }
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void forward_few(const ForwardTask& task, Scratch& scratch) {
  const int64_t padded = Simd<16>::padded(task.keys);
  scratch.begin(Scratch::needed({padded}));
  float* const scores = scratch.take(padded);
  for (int64_t h = 0; h < task.heads; ++h) {
    for (int64_t i = 0; i < task.queries; ++i) {
      const int64_t seen = task.visible(i);
      products_with<S>(task.query.data + i * task.query.row + h * task.query.head, {task.key.data, task.key.row}, seen, task.width, scores);
      float sum;
      task.logsumexp[h * task.logsumexp_head + i] =
          exponentials<S>(scores, seen, (seen + S::kLanes - 1) / S::kLanes * S::kLanes, task.scale, sum,
                          [scores](int64_t j, const typename S::Floats& x) ADATAPE_INLINE_LAMBDA { S::store(scores + j, x); });
      weighted_sum<S>(scores, {task.value.data, task.value.row}, seen, task.width, 1 / sum,
                      task.output.data + i * task.output.row + h * task.output.head);
    }
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void backward_few(const BackwardTask& task, Scratch& scratch) {
  const int64_t padded = Simd<16>::padded(task.keys), width = task.width;
  scratch.begin(Scratch::needed({padded, padded}));
  float *const weights = scratch.take(padded), *const grad_scores = scratch.take(padded);
  for (int64_t h = 0; h < task.heads; ++h) {
    for (int64_t i = 0; i < task.queries; ++i) {
      const int64_t seen = task.visible(i);
      const float* const query = task.query.data + i * task.query.row + h * task.query.head;
      const float* const grad = task.grad_output.data + i * task.grad_output.row + h * task.grad_output.head;
      const float* const output = task.output.data + i * task.output.row + h * task.output.head;
      products_with<S>(query, {task.key.data, task.key.row}, seen, width, weights);
      products_with<S>(grad, {task.value.data, task.value.row}, seen, width, grad_scores);
      typename S::Floats sums{}, g, o;
      for (int64_t c = 0; c < width; c += S::kLanes) {
        load_part<S>(g, grad + c, width - c);
        load_part<S>(o, output + c, width - c);
        sums += g * o;
      }
      softmax_backward<S>(weights, grad_scores, seen, (seen + S::kLanes - 1) / S::kLanes * S::kLanes, task.scale,
                          task.logsumexp[h * task.logsumexp_head + i], sum_of_lanes(sums));
      // The first query of the first head writes the rows of all keys, also of those that it does not see: their weights are 0.
      const bool first = h == 0 && i == 0;
      const int64_t written = first ? task.keys : seen;
      for (int64_t j = seen; j < written; ++j) weights[j] = grad_scores[j] = 0;
      outer_product<S>(grad_scores, query, written, width, task.grad_key.data, task.grad_key.row, !first);
      outer_product<S>(weights, grad, written, width, task.grad_value.data, task.grad_value.row, !first);
      weighted_sum<S>(grad_scores, {task.key.data, task.key.row}, seen, width, 1,
                      task.grad_query.data + i * task.grad_query.row + h * task.grad_query.head);
    }
  }
}

}  // namespace adatape::ops::cpu
