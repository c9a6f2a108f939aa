#include "adatape/tasks/graphs/graph.h"

#include <algorithm>
#include <cmath>

#include "adatape/tasks/graphs/symmetric_eigen.h"

namespace adatape {

Graph Graph::random(CounterRng& random, int64_t nodes, double mean_degree) {
  Graph graph(nodes);
  const double chance = nodes > 1 ? mean_degree / static_cast<double>(nodes - 1) : 0;
  for (int64_t a = 0; a < nodes; ++a) {
    for (int64_t b = a + 1; b < nodes; ++b) {
      if (random.uniform() < chance) graph.connect(a, b);
    }
  }
  return graph;
}

int64_t Graph::degree(int64_t node) const {
  int64_t degree = 0;
  for (int64_t other = 0; other < nodes_; ++other) degree += edge(node, other);
  return degree;
}

int64_t Graph::distance(int64_t from, int64_t to) const {
  std::vector<int64_t> distances(static_cast<size_t>(nodes_), -1), queue = {from};
  distances[static_cast<size_t>(from)] = 0;
  for (size_t next = 0; next < queue.size(); ++next) {
    const int64_t node = queue[next];
    for (int64_t other = 0; other < nodes_; ++other) {
      if (!edge(node, other) || distances[static_cast<size_t>(other)] >= 0) continue;
      distances[static_cast<size_t>(other)] = distances[static_cast<size_t>(node)] + 1;
      queue.push_back(other);
    }
  }
  return distances[static_cast<size_t>(to)];
}

int64_t Graph::triangles() const {
  int64_t count = 0;
  for (int64_t a = 0; a < nodes_; ++a) {
    for (int64_t b = a + 1; b < nodes_; ++b) {
      if (!edge(a, b)) continue;
      for (int64_t c = b + 1; c < nodes_; ++c) count += edge(a, c) && edge(b, c);
    }
  }
  return count;
}

std::vector<double> Graph::normalised_laplacian() const {
  std::vector<double> scales, laplacian(static_cast<size_t>(nodes_ * nodes_), 0.0);
  for (int64_t node = 0; node < nodes_; ++node) scales.push_back(1 / std::sqrt(static_cast<double>(std::max<int64_t>(degree(node), 1))));
  for (int64_t a = 0; a < nodes_; ++a) {
    laplacian[index(a, a)] = 1;
    for (int64_t b = 0; b < nodes_; ++b) {
      if (edge(a, b)) laplacian[index(a, b)] = -scales[static_cast<size_t>(a)] * scales[static_cast<size_t>(b)];
    }
  }
  return laplacian;
}

LaplacianPositions laplacian_positions(const Graph& graph, int64_t count) {
  const int64_t nodes = graph.nodes();
  std::vector<double> laplacian = graph.normalised_laplacian();
  // Eigenvalues lie in [0, 2]. The trivial one is lifted to 4, so that in a graph of several parts the other vectors of eigenvalue 0 are
  // orthogonal to it instead of mixed with it.
  double edges = 0;  // counted from both ends
  for (int64_t node = 0; node < nodes; ++node) edges += static_cast<double>(graph.degree(node));
  for (int64_t a = 0; a < nodes && edges > 0; ++a) {
    for (int64_t b = 0; b < nodes; ++b) {
      laplacian[static_cast<size_t>(a * nodes + b)] += 4 * std::sqrt(static_cast<double>(graph.degree(a) * graph.degree(b))) / edges;
    }
  }
  const SymmetricEigen eigen = symmetric_eigen(std::move(laplacian), nodes);
  LaplacianPositions positions;
  positions.values.assign(static_cast<size_t>(count), 0.0);
  positions.vectors.assign(static_cast<size_t>(count * nodes), 0.0);
  const int64_t found = std::min(count, nodes - 1);
  std::copy_n(eigen.values.begin(), found, positions.values.begin());
  std::copy_n(eigen.vectors.begin(), found * nodes, positions.vectors.begin());
  return positions;
}

}  // namespace adatape
