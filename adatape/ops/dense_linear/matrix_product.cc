#include "adatape/ops/dense_linear/matrix_product.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <type_traits>
#include <vector>

#include "adatape/ops/cpu_simd.h"

namespace adatape::ops::cpu {
namespace {

// Steps between which sums go through memory, and rows of the left factor that stay in the second-level cache with a panel of the right
// one.
constexpr int64_t kDepth = 1024, kBlockRows = 96;

// A part of the product: depth steps of rows of c. The right factor is read by panels of Simd::kPanel columns, whole vectors of them.
struct Part {
  int64_t rows, depth, columns;
  const float* a;
  int64_t a_row, a_column;
  const float* a_tiles;  // the rows of whole tiles once more, a tile's side by side, [tile][depth][Simd::kRows]; null: read from a
  const float* b;
  int64_t b_panel, b_row;  // from one panel to the next, from one step to the next
  const float* bias;       // the sums begin with it; null: with zero
  bool add;                // to what c holds
  float* c;                // rows of `columns`
};

template <class S, int kTileRows, int kVectors>
ADATAPE_ALWAYS_INLINE void tile(const Part& part, const float* a, int64_t a_row, int64_t a_column, const float* panel, int64_t column,
                                float* c) {
  typename S::Floats sums[kTileRows][kVectors], b[kVectors];
  const bool whole = part.columns - column >= kVectors * S::kLanes;  // asked once: products of few steps are mostly beginning and end
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = column + v * S::kLanes;
    b[v] = typename S::Floats{};
    if (part.bias != nullptr) load_part<S>(b[v], part.bias + at, part.columns - at);
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) sums[i][v] = b[v];
  }
  if (part.add) {
    for (int i = 0; i < kTileRows; ++i) {
      for (int v = 0; v < kVectors; ++v)
        load_part<S>(sums[i][v], c + i * part.columns + v * S::kLanes, part.columns - column - v * S::kLanes);
    }
  }
  const int64_t b_row = part.b_row;
  for (int64_t p = 0; p < part.depth; ++p, a += a_column, panel += b_row) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) S::load(b[v], panel + v * S::kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) {
      const float factor = a[i * a_row];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sums[i][v] += b[v] * factor;
    }
  }
  if (whole) {
#pragma GCC unroll 12
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) S::store(c + i * part.columns + v * S::kLanes, sums[i][v]);
    }
    return;
  }
  for (int i = 0; i < kTileRows; ++i) {
    for (int v = 0; v < kVectors; ++v)
      store_part<S>(c + i * part.columns + v * S::kLanes, sums[i][v], part.columns - column - v * S::kLanes);
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void multiply(const Part& part) {
  for (int64_t column = 0; column < part.columns; column += S::kPanel) {
    const float* const panel = part.b + column / S::kPanel * part.b_panel;
    int64_t i = 0;
    const auto run = [&]<int kTileRows>(std::integral_constant<int, kTileRows>) ADATAPE_INLINE_LAMBDA {
      for (; i + kTileRows <= part.rows; i += kTileRows) {
        const bool beside = kTileRows == S::kRows && part.a_tiles != nullptr;
        const float* const a = beside ? part.a_tiles + i * part.depth : part.a + i * part.a_row;
        const int64_t a_row = beside ? 1 : part.a_row, a_column = beside ? S::kRows : part.a_column;
        float* const c = part.c + i * part.columns + column;
        if (part.columns - column > S::kLanes) {
          tile<S, kTileRows, 2>(part, a, a_row, a_column, panel, column, c);
        } else {
          tile<S, kTileRows, 1>(part, a, a_row, a_column, panel, column, c);
        }
      }
    };
    run(std::integral_constant<int, S::kRows>());
    if constexpr (S::kRows > 8) run(std::integral_constant<int, 8>());
    // One to three rows cost what four do: they are done together with rows that are done already, which come out the same.
    if (!part.add && part.rows >= 4 && part.rows - i < 4 && i < part.rows) i = part.rows - 4;
    run(std::integral_constant<int, 4>());
    run(std::integral_constant<int, 1>());
  }
}

ADATAPE_CPU_CLONES void multiply_narrow(const Part& part) { multiply<Simd<8>>(part); }
ADATAPE_CPU_AVX512 void multiply_wide(const Part& part) { multiply<Simd<16>>(part); }

// The right factor's steps begin .. begin + depth as panels of `width` columns: those from first to last of them.
void fill_panels(const Matrix& b, int64_t begin, int64_t depth, int64_t columns, int64_t width, int64_t first, int64_t last, float* to) {
  to += first * width * depth;
  for (int64_t column = first * width; column < last * width; column += width, to += width * depth) {
    const int64_t count = std::min(width, columns - column);
    const float* from = b.data + begin * b.row + column * b.column;
    if (count < width) std::memset(to, 0, static_cast<size_t>(width * depth) * sizeof(float));
    if (b.column == 1) {
      for (int64_t p = 0; p < depth; ++p) std::memcpy(to + p * width, from + p * b.row, static_cast<size_t>(count) * sizeof(float));
      continue;
    }
    int64_t whole = 0;  // columns done by fours
    if (b.row == 1) {
      for (; whole + 4 <= count; whole += 4) {
        int64_t p = 0;
        for (; p + 4 <= depth; p += 4) turn(from + p + whole * b.column, b.column, to + p * width + whole, width);
        for (; p < depth; ++p) {
          for (int64_t j = whole; j < whole + 4; ++j) to[p * width + j] = from[p + j * b.column];
        }
      }
    }
    for (int64_t j = whole; j < count; ++j) {
      for (int64_t p = 0; p < depth; ++p) to[p * width + j] = from[p * b.row + j * b.column];
    }
  }
}

constexpr int64_t kSummedColumns = 64;

// Sums of `count` columns, all of them in registers while the rows pass.
template <class S>
ADATAPE_ALWAYS_INLINE void add_rows(int64_t rows, int64_t columns, const float* x, int64_t count, float* sums) {
  constexpr int kVectors = kSummedColumns / S::kLanes;
  typename S::Floats total[kVectors] = {}, v;
  if (count == kSummedColumns) {
    for (int64_t r = 0; r < rows; ++r, x += columns) {
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) {
        S::load(v, x + i * S::kLanes);
        total[i] += v;
      }
    }
  } else {
    const int whole = static_cast<int>(count / S::kLanes);
    for (int64_t r = 0; r < rows; ++r, x += columns) {
      for (int i = 0; i < kVectors; ++i) {
        if (i > whole) break;
        load_part<S>(v, x + i * S::kLanes, count - i * S::kLanes);
        total[i] += v;
      }
    }
  }
  std::memcpy(sums, total, static_cast<size_t>(count) * sizeof(float));
}

ADATAPE_CPU_CLONES void add_rows_narrow(int64_t rows, int64_t columns, const float* x, int64_t count, float* sums) {
  add_rows<Simd<8>>(rows, columns, x, count, sums);
}
ADATAPE_CPU_AVX512 void add_rows_wide(int64_t rows, int64_t columns, const float* x, int64_t count, float* sums) {
  add_rows<Simd<16>>(rows, columns, x, count, sums);
}

int64_t panel_width() { return 2 * (has_avx512() ? Simd<16>::kLanes : Simd<8>::kLanes); }
int64_t padded(int64_t columns) { return (columns + panel_width() - 1) / panel_width() * panel_width(); }

// Short rows are read where they lie; of many rows only the shortest, as longer ones would fill a few sets of the cache and many pages.
bool lies_well(int64_t depth, int64_t columns, const Matrix& b) {
  constexpr int64_t kShort = 128, kShortest = 32, kFew = 1 << 13;  // numbers
  return b.column == 1 && b.row > 0 && b.row <= (depth * b.row <= kFew ? kShort : kShortest) && columns % (panel_width() / 2) == 0;
}

// Steps begin .. begin + depth of b to panels, by as many threads as pay.
void fill(const Matrix& b, int64_t begin, int64_t depth, int64_t columns, float* panels) {
  constexpr int64_t kWorthSharing = 1 << 15;  // numbers to copy
  const int64_t width = panel_width(), count = padded(columns) / width;
  const auto run = [&](int64_t first, int64_t last) { fill_panels(b, begin, depth, columns, width, first, last, panels); };
  if (depth * columns < kWorthSharing) {
    run(0, count);
  } else {
    at::parallel_for(0, count, 1, run);
  }
}

// Rows of whole tiles whose numbers of one step are adjacent (a.row == 1), as Part::a_tiles wants them: where they lie, each step of a
// tile is a line and often a page of its own, again for each panel.
template <class S>
const float* tiles_of(int64_t rows, int64_t steps, const float* a, int64_t a_column) {
  static thread_local std::vector<float> memory;
  float* to = aligned(memory, rows * steps);
  const float* const tiles = to;
  for (int64_t i = 0; i + S::kRows <= rows; i += S::kRows) {
    for (int64_t p = 0; p < steps; ++p, to += S::kRows) std::memcpy(to, a + i + p * a_column, S::kRows * sizeof(float));
  }
  return tiles;
}

// `steps` steps from `begin` of rows of a; b: those steps of the right factor.
void multiply_steps(int64_t rows, const Matrix& a, int64_t begin, int64_t steps, const RightFactor& b, const float* bias, float* c) {
  if (rows == 0) return;
  const int64_t blocks = (rows + kBlockRows - 1) / kBlockRows;
  const int64_t block = std::max<int64_t>(((rows + blocks - 1) / blocks + 3) / 4 * 4, 4);
  constexpr int64_t kFewSteps = 64;
  const bool beside = a.row == 1 && a.column > 1 && steps >= kFewSteps && b.columns > 2 * panel_width();
  for (int64_t i = 0; i < rows; i += block) {
    Part part;
    part.rows = std::min(block, rows - i);
    part.depth = steps;
    part.columns = b.columns;
    part.a = a.data + i * a.row + begin * a.column;
    part.a_row = a.row;
    part.a_column = a.column;
    part.a_tiles = !beside        ? nullptr
                   : has_avx512() ? tiles_of<Simd<16>>(part.rows, steps, part.a, a.column)
                                  : tiles_of<Simd<8>>(part.rows, steps, part.a, a.column);
    part.b = b.data;
    part.b_panel = b.row > 0 ? panel_width() : panel_width() * steps;
    part.b_row = b.row > 0 ? b.row : panel_width();
    part.bias = begin == 0 ? bias : nullptr;
    part.add = begin > 0;
    part.c = c + i * b.columns;
    has_avx512() ? multiply_wide(part) : multiply_narrow(part);
  }
}

// One allocation lasts for all calls of a thread; other threads read it while this one waits for them.
float* own_memory(int64_t elements) {
  static thread_local std::vector<float> memory;
  return aligned(memory, elements);
}

}  // namespace

float* aligned(std::vector<float>& memory, int64_t elements) {
  if (memory.size() < static_cast<size_t>(elements + 16)) memory.resize(static_cast<size_t>(elements + 16));
  return memory.data() + (64 - reinterpret_cast<size_t>(memory.data()) % 64) % 64 / sizeof(float);
}

int64_t right_factor_elements(int64_t depth, int64_t columns) { return depth * padded(columns); }

RightFactor lay_out(int64_t depth, int64_t columns, const Matrix& b, float* memory) {
  if (lies_well(depth, columns, b)) return {depth, columns, b.data, b.row};
  for (int64_t begin = 0; begin < depth; begin += kDepth)
    fill(b, begin, std::min(kDepth, depth - begin), columns, memory + begin * padded(columns));
  return {depth, columns, memory};
}

void multiply_rows(int64_t rows, const Matrix& a, const RightFactor& b, const float* bias, float* c) {
  for (int64_t begin = 0; begin < b.depth || begin == 0; begin += kDepth) {
    const RightFactor steps{b.depth, b.columns, b.data + begin * (b.row > 0 ? b.row : padded(b.columns)), b.row};
    multiply_steps(rows, a, begin, std::min(kDepth, b.depth - begin), steps, bias, c);
  }
}

void matrix_product(int64_t rows, int64_t depth, int64_t columns, const Matrix& a, const Matrix& b, const float* bias, float* c) {
  if (rows == 0 || columns == 0) return;
  const bool in_place = lies_well(depth, columns, b);
  float* const panels = in_place ? nullptr : own_memory(right_factor_elements(std::min(depth, kDepth), columns));
  for (int64_t begin = 0; begin < depth || begin == 0; begin += kDepth) {
    const int64_t steps = std::min(kDepth, depth - begin);
    constexpr int64_t kWorthAThread = 1 << 17;  // multiply-adds
    const int64_t threads =
        std::min<int64_t>(at::in_parallel_region() ? 1 : at::get_num_threads(), rows * steps * columns / kWorthAThread + 1);
    if (!in_place && threads == 1) {
      fill_panels(b, begin, steps, columns, panel_width(), 0, padded(columns) / panel_width(), panels);
    } else if (!in_place) {
      fill(b, begin, steps, columns, panels);
    }
    const RightFactor right{depth, columns, in_place ? b.data + begin * b.row : panels, in_place ? b.row : 0};
    const auto run = [&](int64_t first, int64_t last) {
      multiply_steps(last - first, {a.data + first * a.row, a.row, a.column}, begin, steps, right, bias, c + first * columns);
    };
    if (threads == 1) {
      run(0, rows);
    } else {
      at::parallel_for(0, rows, ((rows + threads - 1) / threads + 11) / 12 * 12, run);
    }
  }
}

void matrix_products(const std::vector<Product>& products) {
  std::atomic<size_t> next{0};
  const auto run = [&](int64_t, int64_t) {
    for (size_t i = next++; i < products.size(); i = next++) {
      const Product& p = products[i];
      matrix_product(p.rows, p.depth, p.columns, p.a, p.b, p.bias, p.c);
    }
  };
  const int64_t threads = at::in_parallel_region() ? 1 : at::get_num_threads();
  if (threads == 1 || static_cast<int64_t>(products.size()) < 2 * threads) {
    run(0, 1);
  } else {
    at::parallel_for(0, threads, 1, run);
  }
}

void column_sums(int64_t rows, int64_t columns, const float* x, float* sums) {
  const auto run = [&](int64_t first, int64_t last) {
    for (int64_t i = first * kSummedColumns; i < std::min(last * kSummedColumns, columns); i += kSummedColumns) {
      const int64_t count = std::min(kSummedColumns, columns - i);
      has_avx512() ? add_rows_wide(rows, columns, x + i, count, sums + i) : add_rows_narrow(rows, columns, x + i, count, sums + i);
    }
  };
  const int64_t parts = (columns + kSummedColumns - 1) / kSummedColumns;
  if (rows * columns < 1 << 16) {
    run(0, parts);
  } else {
    at::parallel_for(0, parts, 1, run);
  }
}

}  // namespace adatape::ops::cpu
