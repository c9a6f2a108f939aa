#include "adatape/tasks/graphs/symmetric_eigen.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "adatape/core/check.h"

namespace adatape {

SymmetricEigen symmetric_eigen(std::vector<double> matrix, int64_t n) {
  const auto size = static_cast<size_t>(n);
  ADATAPE_CHECK(n >= 0 && matrix.size() == size * size, "symmetric_eigen", "expected ", n, " x ", n, " numbers, got ", matrix.size());
  ADATAPE_CHECK(std::all_of(matrix.begin(), matrix.end(), [](double value) { return std::isfinite(value); }), "symmetric_eigen",
                "expected finite numbers");
  std::vector<double> basis(size * size, 0.0);  // columns become eigenvectors
  double norm = 0;
  for (size_t i = 0; i < size; ++i) {
    basis[i * size + i] = 1;
    for (size_t j = 0; j < i; ++j) matrix[i * size + j] = matrix[j * size + i];
  }
  for (const double value : matrix) norm += value * value;
  constexpr int kSweeps = 64;  // it converges quadratically: 6 to 10 are usual
  for (int sweep = 0; sweep < kSweeps; ++sweep) {
    double off = 0;
    for (size_t p = 0; p < size; ++p) {
      for (size_t q = p + 1; q < size; ++q) off += matrix[p * size + q] * matrix[p * size + q];
    }
    if (off <= 1e-32 * norm) break;
    for (size_t p = 0; p < size; ++p) {
      for (size_t q = p + 1; q < size; ++q) {
        const double cross = matrix[p * size + q];
        if (cross == 0) continue;
        const double theta = (matrix[q * size + q] - matrix[p * size + p]) / (2 * cross);
        const double tangent = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::hypot(theta, 1));  // the smaller of the two angles
        const double cosine = 1 / std::hypot(tangent, 1), sine = tangent * cosine;
        const auto rotate = [&](double& first, double& second) {
          const double kept = first;
          first = cosine * kept - sine * second;
          second = sine * kept + cosine * second;
        };
        for (size_t k = 0; k < size; ++k) rotate(matrix[k * size + p], matrix[k * size + q]);
        for (size_t k = 0; k < size; ++k) rotate(matrix[p * size + k], matrix[q * size + k]);
        matrix[p * size + q] = matrix[q * size + p] = 0;
        for (size_t k = 0; k < size; ++k) rotate(basis[k * size + p], basis[k * size + q]);
      }
    }
  }
  std::vector<size_t> order(size);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return matrix[a * size + a] < matrix[b * size + b]; });
  SymmetricEigen result;
  for (const size_t column : order) {
    result.values.push_back(matrix[column * size + column]);
    for (size_t k = 0; k < size; ++k) result.vectors.push_back(basis[k * size + column]);
  }
  return result;
}

}  // namespace adatape
