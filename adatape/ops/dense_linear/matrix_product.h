// c = a b for small and middling matrices, the left factor read where it lies, by rows or by columns.
#pragma once

#include <ATen/Parallel.h>

#include <cstdint>

namespace adatape::ops::cpu {

struct Matrix {
  const float* data;
  int64_t row, column;  // strides
};

// c [rows, columns] contiguous = a [rows, depth] b [depth, columns] (+ bias [columns], null: none). Threads share the rows of c; the order
// of additions for an element is fixed. Both strides of a factor are free; adjacent columns of b (column == 1) are read fastest.
void matrix_product(int64_t rows, int64_t depth, int64_t columns, const Matrix& a, const Matrix& b, const float* bias, float* c);

// sums [columns] = the sums of the columns of x [rows, columns], contiguous.
void column_sums(int64_t rows, int64_t columns, const float* x, float* sums);

}  // namespace adatape::ops::cpu
