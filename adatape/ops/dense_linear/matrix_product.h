// c = a b for small and middling matrices, the left factor read where it lies, by rows or by columns.
#pragma once

#include <ATen/Parallel.h>

#include <cstdint>
#include <vector>

namespace adatape::ops::cpu {

// `elements` floats of memory, grown where it is too small, from the start of a cache line on.
float* aligned(std::vector<float>& memory, int64_t elements);

struct Matrix {
  const float* data;
  int64_t row, column;  // strides
};

// c [rows, columns] contiguous = a [rows, depth] b [depth, columns] (+ bias [columns], null: none). Threads share the rows of c; the order
// of additions for an element is fixed. Both strides of a factor are free; adjacent columns of b (column == 1) are read fastest.
void matrix_product(int64_t rows, int64_t depth, int64_t columns, const Matrix& a, const Matrix& b, const float* bias, float* c);

// A right factor b laid out once, for products of any thread's rows with it.
struct RightFactor {
  int64_t depth, columns;
  const float* data;
  int64_t row = 0;  // in place: the stride of b's rows; 0: panels
};

int64_t right_factor_elements(int64_t depth, int64_t columns);  // that lay_out needs at most
// Threads share the copying. memory, aligned to 64 bytes, and b must outlive the result: short contiguous rows are read where they lie.
RightFactor lay_out(int64_t depth, int64_t columns, const Matrix& b, float* memory);

// c [rows, columns] contiguous = a [rows, depth] b (+ bias), by the calling thread; the same bits as matrix_product's.
void multiply_rows(int64_t rows, const Matrix& a, const RightFactor& b, const float* bias, float* c);

struct Product {
  int64_t rows, depth, columns;
  Matrix a, b;
  const float* bias;
  float* c;
};

// Products that do not depend on each other, as matrix_product makes each; where there are many, each thread takes whole ones.
void matrix_products(const std::vector<Product>& products);

// sums [columns] = the sums of the columns of x [rows, columns], contiguous.
void column_sums(int64_t rows, int64_t columns, const float* x, float* sums);

}  // namespace adatape::ops::cpu
