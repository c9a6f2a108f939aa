// adatape::tape_read on the CPU, float and double. Each bank row is visited once, for its mean, deviation and key; values are normalised
// only for the rows that are read, and an example stops when it halts. Examples are independent, so threads share nothing.
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "adatape/ops/tape_read/tape_read_cpu_loops.h"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {
namespace cpu {
namespace {

template <class T>
struct Norm {
  const T *weight, *bias;
  T epsilon;
  int64_t width, key_width;
};

// Statistics and keys of some rows: what scores need. Keys are stored by kLine rows, [line][d][kLine]; rows are padded to tiles.
template <class T>
struct PreparedRows {
  std::vector<RowNorm<T>> norms;
  std::vector<T> keys;

  static int64_t padded(int64_t rows) { return (rows + Vector<T>::kTile - 1) / Vector<T>::kTile * Vector<T>::kTile; }
  void reserve(int64_t rows, int64_t key_width) {
    if (static_cast<int64_t>(norms.size()) < padded(rows)) norms.resize(padded(rows));
    if (static_cast<int64_t>(keys.size()) < padded(rows) * key_width) keys.resize(padded(rows) * key_width);
  }
};

// Rows first .. last - 1, first at the beginning of a tile. The keys of a line's rows are turned at once: a store for each feature of each
// row would touch d lines of the cache a row.
template <class T>
ADATAPE_ALWAYS_INLINE void prepare_loop(const T* rows, int64_t stride, int64_t first, int64_t last, const Norm<T>& norm, RowNorm<T>* norms,
                                        T* keys) {
  constexpr int64_t kLine = Vector<T>::kLine, kLanes = Vector<T>::kLanes;
  for (int64_t group = first; group < last; group += kLine) {
    const int64_t count = std::min(kLine, last - group);
    const T* row[kLine];
    RowNorm<T> n[kLine];
    for (int64_t k = 0; k < kLine; ++k) {  // a last group that is not full repeats its last row, so that all rows take the same path
      row[k] = k < count ? rows + (group + k) * stride : row[k - 1];
      n[k] = k < count ? norms[group + k] = row_norm(row[k], norm.width, norm.epsilon) : n[k - 1];
    }
    T* const out = keys + group * norm.key_width;
    int64_t f = 0;
    for (; f + kLanes <= norm.key_width; f += kLanes) {
      for (int64_t k = 0; k < kLine; k += kLanes) transposed_keys(row + k, f, n + k, norm.weight, norm.bias, out + k);
    }
    for (; f < norm.key_width; ++f) {
      for (int64_t k = 0; k < kLine; ++k)
        out[f * kLine + k] = (row[k][f] - n[k].mean) * n[k].inverse_deviation * norm.weight[f] + norm.bias[f];
    }
  }
}

ADATAPE_CPU_CLONES void prepare(const float* rows, int64_t stride, int64_t first, int64_t last, const Norm<float>& norm,
                                RowNorm<float>* norms, float* keys) {
  prepare_loop(rows, stride, first, last, norm, norms, keys);
}
ADATAPE_CPU_CLONES void prepare(const double* rows, int64_t stride, int64_t first, int64_t last, const Norm<double>& norm,
                                RowNorm<double>* norms, double* keys) {
  prepare_loop(rows, stride, first, last, norm, norms, keys);
}

// One example: what it reads from and where its results go.
template <class T>
struct Example {
  const T* query;         // [D]
  const T* query_offset;  // [d] or none
  const T* rows;          // row j at rows + j * stride
  int64_t stride, count;
  const RowNorm<T>* norms;  // [count]; none with an order
  const T* keys;            // [line][d][kLine]; none with an order
  const bool* mask;         // [count] or none
  const int64_t* order;     // [count] or none
  Norm<T> norm;
  int64_t rows_per_step, limit;
  double threshold;
  bool average, entropy;
  T *tokens, *weights;  // [T, D], [T, K]
  int64_t* indices;     // [T, K]
  int64_t* length;
  T *ponder, *halting;  // [1], [T]
};

// Memory of one thread, reused from example to example.
template <class T>
struct Scratch {
  std::vector<T> query;       // [d]
  std::vector<T> unread;      // [padded rows] 0, or NaN for a row that does not exist or was read: added to its score
  std::vector<T> scores;      // [K] of the best rows
  std::vector<int64_t> best;  // [K]
};

constexpr int64_t kFew = 4;  // rows of a step that are found faster one after the other than by sorting in

// The highest of kVectors x kLanes scores above minus infinity, and the first place that has it; false where there is none. NaN loses.
template <class T, int kVectors>
ADATAPE_ALWAYS_INLINE bool best_of_tile(const T* tile, T& score, int64_t& place) {
  using V = typename Vector<T>::Type;
  using Places = decltype(V{} > V{});  // integers as wide as T
  constexpr int kLanes = Vector<T>::kLanes;
  V best = V{} - std::numeric_limits<T>::infinity(), v;
  Places lane, first{};
  for (int k = 0; k < kLanes; ++k) lane[k] = k;
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; ++i) {
    std::memcpy(&v, tile + i * kLanes, sizeof(V));
    const Places higher = v > best;
    best = higher ? v : best;
    first = higher ? lane + i * kLanes : first;
  }
  across_lanes<V>([&]<int kHalf>(std::integral_constant<int, kHalf>) ADATAPE_INLINE_LAMBDA {  // all lanes end with the best of all
    V other;
    Places other_first;
    partners<kHalf>(best, other);
    partners<kHalf>(first, other_first);
    const Places take = (other > best) | ((other == best) & (other_first < first));
    best = take ? other : best;
    first = take ? other_first : first;
  });
  score = best[0];
  place = first[0];
  return score > -std::numeric_limits<T>::infinity();
}

// select_rows for one tile of rows and few wanted ones. False where only minus infinity and NaN are left: nothing is found then.
template <class T, int kVectors>
ADATAPE_ALWAYS_INLINE bool select_few(const Example<T>& example, Scratch<T>& scratch, int64_t want) {
  constexpr int64_t kRows = kVectors * Vector<T>::kLanes;
  T tile[kRows];
  score_tile<T, kVectors>(scratch.query.data(), example.keys, example.norm.key_width, tile);
  const T* const unread = scratch.unread.data();
#pragma omp simd
  for (int64_t j = 0; j < kRows; ++j) tile[j] += unread[j];
  for (int64_t found = 0; found < want; ++found) {
    if (!best_of_tile<T, kVectors>(tile, scratch.scores[found], scratch.best[found])) return false;
    tile[scratch.best[found]] = std::numeric_limits<T>::quiet_NaN();
  }
  return true;
}

// The `want` best unread rows into scratch.best, best first; their scores into scratch.scores. Rows ascend and only a higher score
// passes, so ties stay with the lower index.
template <class T>
ADATAPE_ALWAYS_INLINE int64_t select_rows(const Example<T>& example, Scratch<T>& scratch, int64_t want) {
  constexpr int64_t kTile = Vector<T>::kTile;
  if (want <= kFew && example.count <= kTile) {
    if (example.count <= kTile / 2 ? select_few<T, 4>(example, scratch, want) : select_few<T, 8>(example, scratch, want)) return want;
  }
  T* const best_scores = scratch.scores.data();
  int64_t* const best = scratch.best.data();
  int64_t found = 0;
  T tile[kTile];
  for (int64_t begin = 0; begin < example.count; begin += kTile) {
    score_tile(scratch.query.data(), example.keys + begin * example.norm.key_width, example.norm.key_width, tile);
    const T bar = found == want ? best_scores[want - 1] : -std::numeric_limits<T>::infinity();
    const T* const unread = scratch.unread.data() + begin;
    int candidates = 0;
#pragma omp simd reduction(+ : candidates)
    for (int64_t j = 0; j < kTile; ++j) {
      tile[j] += unread[j];
      candidates += tile[j] >= bar;
    }
    if (candidates == 0) continue;
    for (int64_t j = 0; j < kTile; ++j) {
      const T score = tile[j];
      if (std::isnan(score) || (found == want && !(score > best_scores[want - 1]))) continue;
      int64_t place = found < want ? found++ : want - 1;
      for (; place > 0 && best_scores[place - 1] < score; --place) {
        best_scores[place] = best_scores[place - 1];
        best[place] = best[place - 1];
      }
      best_scores[place] = score;
      best[place] = begin + j;
    }
  }
  // Rows are left but their scores are NaN: lowest index first.
  const int64_t numbers = found;
  for (int64_t j = 0; found < want; ++j) {
    if (std::isnan(scratch.unread[j]) || std::find(best, best + numbers, j) != best + numbers) continue;
    best_scores[found] = std::numeric_limits<T>::quiet_NaN();
    best[found++] = j;
  }
  return found;
}

template <class T>
ADATAPE_ALWAYS_INLINE void read_loop(const Example<T>& example, Scratch<T>& scratch) {
  const Norm<T>& norm = example.norm;
  const int64_t width = norm.width, d = norm.key_width, rows_per_step = example.rows_per_step;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  scratch.query.resize(d);
  scratch.scores.resize(rows_per_step);
  scratch.best.resize(rows_per_step);
  const RowNorm<T> query_norm = row_norm(example.query, width, norm.epsilon);
  for (int64_t f = 0; f < d; ++f) {
    scratch.query[f] = (example.query[f] - query_norm.mean) * query_norm.inverse_deviation * norm.weight[f] + norm.bias[f];
    if (example.query_offset) scratch.query[f] += example.query_offset[f];
  }
  int64_t left = example.count;
  if (!example.order) {
    scratch.unread.assign(PreparedRows<T>::padded(example.count), nan);
    std::fill_n(scratch.unread.begin(), example.count, T(0));
  }
  if (example.mask) {
    for (int64_t j = 0; j < example.count; ++j) {
      if (example.mask[j]) continue;
      --left;
      if (!example.order) scratch.unread[j] = nan;
    }
  }

  const T scale = 1 / std::sqrt(static_cast<T>(d));
  T h = 0, ponder = 0;
  int64_t n = 0, place = 0;
  while (n < example.limit && left > 0) {
    const int64_t want = std::min(rows_per_step, left);
    T* const weights = example.weights + n * rows_per_step;
    if (example.order) {
      for (int64_t i = 0; i < want; ++place) {
        const int64_t j = example.order[place];
        if (example.mask && !example.mask[j]) continue;
        scratch.best[i] = j;
        weights[i++] = 1 / static_cast<T>(want);
      }
    } else {
      select_rows(example, scratch, want);
      for (int64_t i = 0; i < want; ++i) prefetch_row(example.rows + scratch.best[i] * example.stride, width);
      T total = weights[0] = 1 + (scratch.scores[0] - scratch.scores[0]);  // e^0; NaN stays
      for (int64_t i = 1; i < want; ++i) total += weights[i] = std::exp((scratch.scores[i] - scratch.scores[0]) * scale);
      for (int64_t i = 0; i < want; ++i) weights[i] /= total;
    }

    // sum_i w_i (x^_i weight + bias) with weight and bias outside the sum
    T* const token = example.tokens + n * width;
    T total_weight = 0, squares = 0;
    for (int64_t i = 0; i < want; ++i) {
      const int64_t j = scratch.best[i];
      const T* const row = example.rows + j * example.stride;
      const RowNorm<T> row_statistics = example.order ? row_norm(row, width, norm.epsilon) : example.norms[j];
      const T mean = row_statistics.mean, factor = weights[i] * row_statistics.inverse_deviation;
      total_weight += weights[i];
      squares += weights[i] * weights[i];
#pragma omp simd
      for (int64_t f = 0; f < width; ++f) token[f] += (row[f] - mean) * factor;
      example.indices[n * rows_per_step + i] = j;
      if (!example.order) scratch.unread[j] = nan;
    }
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) token[f] = token[f] * norm.weight[f] + norm.bias[f] * total_weight;

    for (int64_t f = 0; f < d; ++f) scratch.query[f] = example.average ? (scratch.query[f] + token[f]) / 2 : token[f];
    ponder += 1 - (example.entropy ? squares : weights[0]);
    h += weights[0];
    example.halting[n++] = h;
    left -= want;
    if (static_cast<double>(h) >= example.threshold - 1e-5) break;
  }
  *example.length = n;
  *example.ponder = ponder;
}

ADATAPE_CPU_CLONES void read(const Example<float>& example, Scratch<float>& scratch) { read_loop(example, scratch); }
ADATAPE_CPU_CLONES void read(const Example<double>& example, Scratch<double>& scratch) { read_loop(example, scratch); }

template <class T>
TapeReadResult forward(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  const int64_t batch = inputs.query.size(0), width = inputs.query.size(1), bank_rows = inputs.bank.size(0);
  const int64_t steps = options.max_steps, rows_per_step = options.rows_per_step;
  const at::Tensor query = inputs.query.contiguous(), norm_weight = inputs.norm_weight.contiguous();
  const at::Tensor bank = inputs.bank.stride(1) == 1 ? inputs.bank : inputs.bank.contiguous(), norm_bias = inputs.norm_bias.contiguous();
  auto contiguous = [](const std::optional<at::Tensor>& tensor) { return tensor ? tensor->contiguous() : at::Tensor(); };
  const at::Tensor offsets = contiguous(inputs.bank_offsets), limits = contiguous(inputs.step_limits), order = contiguous(inputs.order);
  const at::Tensor mask = contiguous(inputs.bank_mask);
  const at::Tensor query_offset = inputs.query_offset ? inputs.query_offset->to(query.scalar_type()).contiguous() : at::Tensor();
  const at::Tensor thresholds = inputs.thresholds ? inputs.thresholds->to(at::kDouble).contiguous() : at::Tensor();
  if (offsets.defined()) check_bank_offsets(offsets, bank_rows);
  if (limits.defined()) check_step_limits(limits, steps);
  if (order.defined()) check_order(order, inputs.bank_offsets);

  const at::TensorOptions real = query.options(), integer = real.dtype(at::kLong);
  at::Tensor tokens = at::zeros({batch, steps, width}, real), weights = at::zeros({batch, steps, rows_per_step}, real);
  at::Tensor indices = at::full({batch, steps, rows_per_step}, -1, integer), lengths = at::empty({batch}, integer);
  at::Tensor ponder = at::empty({batch}, real), halting = at::zeros({batch, steps}, real);

  const Norm<T> norm{norm_weight.const_data_ptr<T>(), norm_bias.const_data_ptr<T>(), static_cast<T>(options.norm_epsilon), width,
                     options.key_width};
  const T* const bank_data = bank.const_data_ptr<T>();
  const int64_t stride = bank.stride(0), tiles = PreparedRows<T>::padded(bank_rows) / Vector<T>::kTile;
  auto prepare_parallel = [&](const T* rows, int64_t count, PreparedRows<T>& prepared) {
    prepared.reserve(count, norm.key_width);
    at::parallel_for(0, PreparedRows<T>::padded(count) / Vector<T>::kTile, grain(Vector<T>::kTile * width),
                     [&](int64_t first, int64_t last) {
                       prepare(rows, stride, first * Vector<T>::kTile, std::min(last * Vector<T>::kTile, count), norm,
                               prepared.norms.data(), prepared.keys.data());
                     });
  };
  auto read_example = [&](int64_t b, PreparedRows<T>& prepared, Scratch<T>& scratch, bool parallel_rows) {
    const int64_t first = offsets.defined() ? offsets.const_data_ptr<int64_t>()[b] : 0;
    const int64_t count = offsets.defined() ? offsets.const_data_ptr<int64_t>()[b + 1] - first : bank_rows;
    const int64_t of_example = offsets.defined() ? first : b * bank_rows;  // in mask and order
    const int64_t limit = limits.defined() ? limits.const_data_ptr<int64_t>()[b] : steps;
    if (offsets.defined() && !order.defined() && limit > 0) {
      if (parallel_rows) {
        prepare_parallel(bank_data + first * stride, count, prepared);
      } else {
        prepared.reserve(count, norm.key_width);
        prepare(bank_data + first * stride, stride, 0, count, norm, prepared.norms.data(), prepared.keys.data());
      }
    }
    const Example<T> example{
        .query = query.const_data_ptr<T>() + b * width,
        .query_offset = query_offset.defined() ? query_offset.const_data_ptr<T>() + b * options.key_width : nullptr,
        .rows = bank_data + first * stride,
        .stride = stride,
        .count = count,
        .norms = prepared.norms.data(),
        .keys = prepared.keys.data(),
        .mask = mask.defined() ? mask.const_data_ptr<bool>() + of_example : nullptr,
        .order = order.defined() ? order.const_data_ptr<int64_t>() + of_example : nullptr,
        .norm = norm,
        .rows_per_step = rows_per_step,
        .limit = limit,
        .threshold = thresholds.defined() ? thresholds.const_data_ptr<double>()[b] : options.threshold,
        .average = options.query_update == "average",
        .entropy = options.ponder == "entropy",
        .tokens = tokens.mutable_data_ptr<T>() + b * steps * width,
        .weights = weights.mutable_data_ptr<T>() + b * steps * rows_per_step,
        .indices = indices.mutable_data_ptr<int64_t>() + b * steps * rows_per_step,
        .length = lengths.mutable_data_ptr<int64_t>() + b,
        .ponder = ponder.mutable_data_ptr<T>() + b,
        .halting = halting.mutable_data_ptr<T>() + b * steps,
    };
    read(example, scratch);
  };

  PreparedRows<T> shared;
  if (!offsets.defined() && !order.defined()) prepare_parallel(bank_data, bank_rows, shared);
  if (offsets.defined() && batch < at::get_num_threads() && tiles > batch) {  // few examples: threads share the rows of each
    Scratch<T> scratch;
    for (int64_t b = 0; b < batch; ++b) read_example(b, shared, scratch, true);
  } else {
    const int64_t rows_each = offsets.defined() ? bank_rows / std::max<int64_t>(batch, 1) : bank_rows;
    const int64_t visited = offsets.defined() ? rows_each * width : rows_each * options.key_width;  // elements an example costs
    at::parallel_for(0, batch, grain(visited + steps * rows_per_step * width), [&](int64_t begin, int64_t end) {
      Scratch<T> scratch;
      PreparedRows<T> own;
      for (int64_t b = begin; b < end; ++b) read_example(b, offsets.defined() ? own : shared, scratch, false);
    });
  }
  return {tokens, weights, indices, lengths, ponder, halting};
}

}  // namespace
}  // namespace cpu

TapeReadResult tape_read_forward_cpu(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  return inputs.bank.scalar_type() == at::kDouble ? cpu::forward<double>(inputs, options) : cpu::forward<float>(inputs, options);
}

}  // namespace adatape::ops
