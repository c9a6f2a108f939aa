// Eigenvalues and eigenvectors of a small symmetric matrix, on plain arrays: examples are drawn on threads that must not start an OpenMP
// team each. Method: cyclic Jacobi (Golub and Van Loan, Matrix Computations, section 8.5).
#pragma once

#include <cstdint>
#include <vector>

namespace adatape {

struct SymmetricEigen {
  std::vector<double> values;   // [n] ascending
  std::vector<double> vectors;  // [n, n], row i is the unit eigenvector of values[i]; its sign, and a basis of equal values, are arbitrary
};

// matrix: [n, n] row by row, of which the upper triangle is read. Throws Error where the size is not n x n or a value is not finite. About
// 8 sweeps of 6 n^3 multiplications.
SymmetricEigen symmetric_eigen(std::vector<double> matrix, int64_t n);

}  // namespace adatape
