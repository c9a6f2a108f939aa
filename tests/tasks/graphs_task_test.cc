#include "adatape/tasks/graphs/graphs_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "adatape/tasks/graphs/symmetric_eigen.h"
#include "task_cases.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;
using testing::numbers;
using testing::refusal_of;
using testing::task_of;

Graph graph_of(int64_t nodes, const std::vector<std::pair<int64_t, int64_t>>& edges) {
  Graph graph(nodes);
  for (const auto& [a, b] : edges) graph.connect(a, b);
  return graph;
}

// A node as its vector tells it.
struct ReadNode {
  int64_t degree, place;
  bool marked;
  std::set<int64_t> neighbours;  // places
};

// The vectors of an example with 16 places.
std::vector<ReadNode> read_nodes(const Batch& batch, int64_t example, int64_t places = 16) {
  std::vector<ReadNode> nodes;
  for (int64_t i = batch.offsets[static_cast<size_t>(example)]; i < batch.offsets[static_cast<size_t>(example) + 1]; ++i) {
    const std::vector<double> vector = numbers(batch.vectors[i]);
    EXPECT_EQ(static_cast<int64_t>(vector.size()), 2 + 2 * places);
    ReadNode node{static_cast<int64_t>(vector[0]), -1, vector[1] == 1, {}};
    for (int64_t place = 0; place < places; ++place) {
      if (vector[static_cast<size_t>(2 + place)] == 1) {
        EXPECT_EQ(node.place, -1);
        node.place = place;
      }
      if (vector[static_cast<size_t>(2 + places + place)] == 1) node.neighbours.insert(place);
    }
    EXPECT_EQ(node.degree, static_cast<int64_t>(node.neighbours.size()));
    nodes.push_back(node);
  }
  return nodes;
}

TEST(Graph, QuestionsByHand) {
  const Graph graph = graph_of(7, {{0, 1}, {1, 2}, {2, 0}, {2, 3}, {3, 4}, {5, 6}});
  EXPECT_EQ(graph.triangles(), 1);
  EXPECT_EQ(graph.distance(0, 4), 3);
  EXPECT_EQ(graph.distance(4, 4), 0);
  EXPECT_EQ(graph.distance(0, 5), -1);
  EXPECT_EQ(graph.degree(2), 3);
  EXPECT_EQ(graph_of(4, {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}}).triangles(), 4);
}

TEST(Graph, EigenvaluesAreThoseOfLinearAlgebra) {
  for (const int64_t n : {1, 2, 3, 7, 20, 64}) {
    const at::Tensor half = at::randn({n, n}, at::kDouble), matrix = half + half.t();
    const SymmetricEigen eigen = symmetric_eigen(numbers(matrix), n);
    const at::Tensor values = at::tensor(eigen.values, at::kDouble), vectors = at::tensor(eigen.vectors, at::kDouble).view({n, n});
    EXPECT_TRUE(values.allclose(std::get<0>(at::linalg_eigh(matrix)), 0, 1e-11)) << n;
    EXPECT_TRUE(vectors.matmul(vectors.t()).allclose(at::eye(n, at::kDouble), 0, 1e-12)) << n;
    EXPECT_TRUE(vectors.matmul(matrix).allclose(values.unsqueeze(1) * vectors, 0, 1e-11)) << n;
  }
  EXPECT_EQ(symmetric_eigen({}, 0).values.size(), 0u);
  EXPECT_EQ(symmetric_eigen({0, 0, 0, 0}, 2).values, (std::vector<double>{0, 0}));
  EXPECT_EQ(refusal_of([] { symmetric_eigen({1, 2, 3}, 2); }), "symmetric_eigen: expected 2 x 2 numbers, got 3");
  EXPECT_THAT(refusal_of([] { symmetric_eigen({1, NAN, NAN, 1}, 2); }), HasSubstr("expected finite numbers"));
}

// A ring of n: 1 - cos(2 pi k / n), each twice but for 0 and, n even, 2. A path of three: 0, 1, 2.
TEST(Graph, LaplacianPositionsByHand) {
  Graph ring(6);
  for (int64_t i = 0; i < 6; ++i) ring.connect(i, (i + 1) % 6);
  const LaplacianPositions of_ring = laplacian_positions(ring, 7);
  const std::vector<double> expected = {0.5, 0.5, 1.5, 1.5, 2, 0, 0};  // six nodes have five beside the trivial one
  for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(of_ring.values[i], expected[i], 1e-12) << i;
  for (size_t i = 5 * 6; i < 7 * 6; ++i) EXPECT_EQ(of_ring.vectors[i], 0);

  const LaplacianPositions of_path = laplacian_positions(graph_of(3, {{0, 1}, {1, 2}}), 2);
  EXPECT_NEAR(of_path.values[0], 1, 1e-12);
  EXPECT_NEAR(of_path.values[1], 2, 1e-12);
  EXPECT_NEAR(of_path.vectors[0], -of_path.vectors[2], 1e-12);
  EXPECT_NEAR(std::abs(of_path.vectors[0]), std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(of_path.vectors[1], 0, 1e-12);
}

// In a graph of two parts one eigenvalue 0 is left, whose vector divided by sqrt(degree) is constant on a part, of two signs, and
// orthogonal to the trivial one.
TEST(Graph, PartsShowInTheFirstPosition) {
  const Graph graph = graph_of(6, {{0, 1}, {1, 2}, {2, 0}, {2, 3}, {4, 5}});
  const LaplacianPositions positions = laplacian_positions(graph, 3);
  EXPECT_NEAR(positions.values[0], 0, 1e-12);
  EXPECT_GT(positions.values[1], 0.1);
  std::vector<double> scaled;
  double with_trivial = 0;
  for (int64_t i = 0; i < 6; ++i) {
    scaled.push_back(positions.vectors[static_cast<size_t>(i)] / std::sqrt(static_cast<double>(graph.degree(i))));
    with_trivial += positions.vectors[static_cast<size_t>(i)] * std::sqrt(static_cast<double>(graph.degree(i)));
  }
  for (const size_t i : {1, 2, 3}) EXPECT_NEAR(scaled[i], scaled[0], 1e-12);
  EXPECT_NEAR(scaled[5], scaled[4], 1e-12);
  EXPECT_LT(scaled[0] * scaled[4], -1e-3);
  EXPECT_NEAR(with_trivial, 0, 1e-12);
}

// Union and find over the vectors, where the task searches breadth first over its graph.
TEST(Graphs, AnswersAreConnectivity) {
  const auto task = task_of("graphs");
  EXPECT_EQ(task->class_names(), (std::vector<std::string>{"apart", "connected"}));
  for (const Split split : {Split::kValidation, Split::kTest}) {
    const Batch batch = task->held_out_batch(split, 0, 600);
    const std::vector<double> distances = numbers(task->example_covariate(batch));
    int64_t connected = 0, adjacent = 0;
    std::set<int64_t> sizes, places, farthest;
    for (int64_t b = 0; b < batch.size(); ++b) {
      const std::vector<ReadNode> nodes = read_nodes(batch, b);
      std::vector<int64_t> parent(16), marks;
      std::iota(parent.begin(), parent.end(), int64_t{0});
      const auto root = [&](int64_t node) {
        while (parent[static_cast<size_t>(node)] != node) node = parent[static_cast<size_t>(node)];
        return node;
      };
      bool next_to = false;
      for (const ReadNode& node : nodes) {
        places.insert(node.place);
        if (node.marked) {
          marks.push_back(node.place);
          EXPECT_GT(node.degree, 0);
        }
        for (const int64_t other : node.neighbours) parent[static_cast<size_t>(root(other))] = root(node.place);
      }
      ASSERT_EQ(marks.size(), 2u);
      for (const ReadNode& node : nodes) next_to = next_to || (node.place == marks[0] && node.neighbours.count(marks[1]) == 1);
      const bool answer = root(marks[0]) == root(marks[1]);
      ASSERT_EQ(batch.labels[b].item<int64_t>(), answer);
      EXPECT_EQ(distances[static_cast<size_t>(b)] > 0, answer);
      EXPECT_EQ(distances[static_cast<size_t>(b)] == 1, next_to);
      connected += answer;
      adjacent += next_to;
      sizes.insert(static_cast<int64_t>(nodes.size()));
      farthest.insert(static_cast<int64_t>(distances[static_cast<size_t>(b)]));
    }
    EXPECT_NEAR(static_cast<double>(connected) / 600, 0.5, 0.07);
    EXPECT_GT(adjacent, 20);
    EXPECT_EQ(sizes, (std::set<int64_t>{8, 9, 10, 11, 12, 13, 14, 15, 16}));
    EXPECT_EQ(places.size(), 16u);
    EXPECT_GE(*farthest.rbegin(), 5);
  }
}

// Every triple of nodes, by their vectors.
TEST(Graphs, AnswersAreParitiesOfTriangles) {
  const auto task = task_of("graphs", "question = \"triangle_parity\"\nmean_degree = 4");
  const Batch batch = task->training_batch(1, 0, 300);
  const std::vector<double> counted = numbers(task->example_covariate(batch));
  int64_t odd = 0;
  for (int64_t b = 0; b < batch.size(); ++b) {
    const std::vector<ReadNode> nodes = read_nodes(batch, b);
    int64_t triangles = 0;
    for (const ReadNode& one : nodes) {
      EXPECT_FALSE(one.marked);
      for (const ReadNode& two : nodes) {
        for (const ReadNode& three : nodes) {
          triangles +=
              one.neighbours.count(two.place) == 1 && two.neighbours.count(three.place) == 1 && three.neighbours.count(one.place) == 1;
        }
      }
    }
    EXPECT_EQ(triangles % 6, 0);
    EXPECT_EQ(counted[static_cast<size_t>(b)], static_cast<double>(triangles / 6));
    ASSERT_EQ(batch.labels[b].item<int64_t>(), triangles / 6 % 2);
    odd += triangles / 6 % 2;
  }
  EXPECT_NEAR(static_cast<double>(odd) / 300, 0.5, 0.1);
}

// The same first draws give the same graph, so both forms can be held against each other: the positions are eigenvectors of the graph that
// the adjacency rows tell, in the order of the nodes.
TEST(Graphs, LaplacianPositionsAreThoseOfTheGraph) {
  const auto rows = task_of("graphs"), spectral = task_of("graphs", "positions = \"laplacian\"\nposition_dimension = 5");
  EXPECT_EQ(spectral->input_spec().dimension, 12);
  EXPECT_EQ(spectral->covariate_name(), "edges");
  const Batch one = rows->training_batch(3, 1, 40), two = spectral->training_batch(3, 1, 40);
  EXPECT_EQ(one.offsets, two.offsets);
  EXPECT_TRUE(one.labels.equal(two.labels));
  const std::vector<double> edges = numbers(spectral->example_covariate(two));
  int64_t negative = 0;
  for (int64_t b = 0; b < one.size(); ++b) {
    const std::vector<ReadNode> nodes = read_nodes(one, b);
    const auto n = static_cast<int64_t>(nodes.size());
    Graph graph(n);
    double ends = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        if (nodes[static_cast<size_t>(i)].neighbours.count(nodes[static_cast<size_t>(j)].place) == 1) graph.connect(i, j);
      }
      ends += static_cast<double>(nodes[static_cast<size_t>(i)].degree);
    }
    EXPECT_EQ(edges[static_cast<size_t>(b)], ends / 2);
    const at::Tensor vectors =
        two.vectors.slice(0, two.offsets[static_cast<size_t>(b)], two.offsets[static_cast<size_t>(b) + 1]).to(at::kDouble);
    EXPECT_TRUE(vectors.slice(1, 0, 2).equal(
        one.vectors.slice(0, one.offsets[static_cast<size_t>(b)], one.offsets[static_cast<size_t>(b) + 1]).slice(1, 0, 2).to(at::kDouble)));
    const at::Tensor laplacian = at::tensor(graph.normalised_laplacian(), at::kDouble).view({n, n});
    const at::Tensor positions = vectors.slice(1, 2, 7), values = vectors.slice(1, 7, 12);
    EXPECT_TRUE(laplacian.matmul(positions).allclose(positions * values, 0, 1e-5)) << b;
    EXPECT_TRUE(positions.t().matmul(positions).allclose(at::eye(5, at::kDouble), 0, 1e-5)) << b;
    EXPECT_TRUE(values.equal(values.slice(0, 0, 1).expand({n, 5})));
    negative += positions[0][0].item<double>() < 0;
  }
  EXPECT_GT(negative, 8);  // signs are random
  EXPECT_LT(negative, 32);
}

TEST(Graphs, TestGraphsMayBeLarger) {
  const auto task = task_of("graphs", "test_nodes_minimum = 20\ntest_nodes_maximum = 24");
  EXPECT_EQ(task->input_spec().length, 24);
  const Batch training = task->training_batch(1, 0, 200), test = task->held_out_batch(Split::kTest, 0, 50);
  std::set<int64_t> places;
  for (int64_t b = 0; b < training.size(); ++b) {
    const std::vector<ReadNode> nodes = read_nodes(training, b, 24);
    EXPECT_LE(nodes.size(), 16u);
    for (const ReadNode& node : nodes) places.insert(node.place);
  }
  EXPECT_EQ(places.size(), 24u);  // places of the largest graph are all trained
  for (int64_t b = 0; b < test.size(); ++b) EXPECT_GE(read_nodes(test, b, 24).size(), 20u);
}

TEST(Graphs, WhatCannotBeIsSaid) {
  EXPECT_EQ(refusal_of([] { task_of("graphs", "nodes_minimum = 17"); }),
            "task graphs: expected nodes_minimum <= nodes_maximum, got 17 and 16");
  EXPECT_EQ(refusal_of([] { task_of("graphs", "test_nodes_minimum = 17"); }),
            "task graphs: expected test_nodes_minimum <= test_nodes_maximum, got 17 and 16");
  EXPECT_EQ(refusal_of([] { task_of("graphs", "mean_degree = 8.0"); }),
            "task graphs: expected a mean_degree of at most 7, all other nodes of the smallest graphs, got 8");
  EXPECT_THAT(refusal_of([] { task_of("graphs", "nodes_maximum = 65"); }), HasSubstr("nodes_maximum"));
  EXPECT_THAT(refusal_of([] { task_of("graphs", "question = \"planarity\""); }), HasSubstr("connectivity"));
  const auto complete = task_of("graphs", "mean_degree = 7\nnodes_maximum = 8");
  EXPECT_EQ(refusal_of([&] { complete->training_batch(1, 0, 20); }),
            "task graphs: expected a mean_degree at which both answers occur, got 7: none of 10000 graphs of 8 nodes had the answer "
            "\"apart\"; bring it closer to 1.5");
}

}  // namespace
}  // namespace adatape
