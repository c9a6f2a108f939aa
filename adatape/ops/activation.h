// Activations of feed-forward networks and their gradients over rows of floats, by the calling thread.
#pragma once

#include <cstdint>

namespace adatape::ops::cpu {

// out = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)): GELU in its tanh form. Source: arXiv 1606.08415.
void tanh_gelu(const float* x, int64_t count, float* out);
// out = grad times the slope at x.
void tanh_gelu_gradient(const float* x, const float* grad, int64_t count, float* out);

// x [rows, 2 width], halves a and g -> out [rows, width] = a sigmoid(g). gates, rows of gates_row floats, gets sigmoid(g) and may be g's
// own place; null: nobody needs it.
void gate(const float* x, int64_t rows, int64_t width, float* out, float* gates, int64_t gates_row);
// grad [rows, width] -> out [rows, 2 width]. Of x only the half a is read.
void gate_gradient(const float* x, const float* gates, int64_t gates_row, const float* grad, int64_t rows, int64_t width, float* out);

// Softmax of each short row of x [rows, width], and its gradient from what it gave. A row's bits depend on nothing but the row.
void softmax_rows(const float* x, int64_t rows, int64_t width, float* out);
void softmax_rows_gradient(const float* softmax, const float* grad, int64_t rows, int64_t width, float* out);

}  // namespace adatape::ops::cpu
