// A small undirected graph: what task graphs asks of it, and the Laplacian positions of its nodes.
#pragma once

#include <cstdint>
#include <vector>

#include "adatape/core/rng.h"

namespace adatape {

class Graph {
 public:
  explicit Graph(int64_t nodes) : nodes_(nodes), edges_(static_cast<size_t>(nodes * nodes), 0) {}
  // Every pair is an edge with the chance that gives a node `mean_degree` of them.
  static Graph random(CounterRng& random, int64_t nodes, double mean_degree);

  void connect(int64_t a, int64_t b) { edges_[index(a, b)] = edges_[index(b, a)] = 1; }
  bool edge(int64_t a, int64_t b) const { return edges_[index(a, b)] != 0; }
  int64_t nodes() const { return nodes_; }
  int64_t degree(int64_t node) const;
  // Edges of the shortest way; -1: there is none.
  int64_t distance(int64_t from, int64_t to) const;
  int64_t triangles() const;
  // I - D^-1/2 A D^-1/2, [nodes, nodes], with a 1 in place of the degree of a node without edges (as in arXiv 2003.00982's code).
  std::vector<double> normalised_laplacian() const;

 private:
  size_t index(int64_t a, int64_t b) const { return static_cast<size_t>(a * nodes_ + b); }
  int64_t nodes_;
  std::vector<uint8_t> edges_;  // [nodes, nodes]
};

struct LaplacianPositions {
  std::vector<double> values;   // [count] eigenvalues, ascending
  std::vector<double> vectors;  // [count, nodes]
};

// The `count` lowest eigenvectors of the normalised Laplacian beside the trivial one, which is D^1/2 times ones; zeros where the graph has
// fewer. Source: arXiv 2003.00982, section 4.2; 2106.03893, section 3. Signs, and a basis of equal eigenvalues, are arbitrary.
LaplacianPositions laplacian_positions(const Graph& graph, int64_t count);

}  // namespace adatape
