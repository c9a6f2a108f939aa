// Random graphs, one element a node: are two marked nodes connected, or is the number of triangles odd?
#pragma once

#include <memory>

#include "adatape/tasks/drawn_task.h"
#include "adatape/tasks/graphs/graph.h"

namespace adatape {

struct GraphsConfig : TaskConfig {
  std::string question = "connectivity";                    // connectivity | triangle_parity
  int64_t nodes_minimum = 8, nodes_maximum = 16;            // of training and validation
  int64_t test_nodes_minimum = 8, test_nodes_maximum = 16;  // of the test split
  double mean_degree = 1.5;
  std::string positions = "adjacency";  // adjacency | laplacian
  int64_t position_dimension = 8;       // eigenvectors; laplacian

  GraphsConfig() { name = "graphs"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
  int64_t largest() const;  // nodes
};

// The number of nodes is uniform in its range and the answer a fair coin; graphs (every pair an edge with equal chance), and the two marks,
// on nodes with an edge, are drawn anew until they have that answer. A node's vector: its degree, 1 if it is marked, then with
// `adjacency` its place one-hot and the row of the adjacency matrix by place, where places are drawn among those of the largest graph, so
// that training sees all of them; with `laplacian` its entries in the lowest eigenvectors, a random sign each, and their eigenvalues.
class GraphsTask : public DrawnTask {
 public:
  explicit GraphsTask(const GraphsConfig& config);

  // float32 [B] on the CPU: distance of the marked nodes (0: not connected) or triangles; with Laplacian positions, which do not tell
  // these, edges.
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override;
  std::vector<std::string> class_names() const override;

 protected:
  void draw(CounterRng& random, Split split, DrawnExamples& examples) const override;

 private:
  struct Question {
    Graph graph;
    int64_t marks[2];  // nodes; -1 without
  };
  Question draw_question(CounterRng& random, int64_t nodes, bool yes) const;
  // Appends a node's place and neighbours, or its Laplacian position, to each node's vector.
  void write_adjacency(CounterRng& random, const Graph& graph, float* vectors) const;
  void write_laplacian(CounterRng& random, const Graph& graph, float* vectors) const;
  bool connectivity() const { return config_.question == "connectivity"; }

  GraphsConfig config_;
};

std::unique_ptr<TaskConfig> make_graphs_config();
std::unique_ptr<Task> make_graphs_task(const TaskConfig& config);

}  // namespace adatape
