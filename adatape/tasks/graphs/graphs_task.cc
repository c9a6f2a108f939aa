#include "adatape/tasks/graphs/graphs_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr char kGraphsWhere[] = "task graphs";
constexpr int64_t kDegree = 0, kMark = 1, kFeatures = 2, kGraphsClasses = 2, kMostNodes = 64;
constexpr int kMostDraws = 10'000;
constexpr uint64_t kGraphsHeldOutSeed = 0x6772'6170'6873'2121;  // "graphs!!"

}  // namespace

void GraphsConfig::fields(FieldVisitor& visit) {
  const IntegerRange nodes{.minimum = 4, .maximum = kMostNodes};
  visit.text("name", name, "name of the task");
  visit.choice("question", question, {"connectivity", "triangle_parity"},
               "connectivity: is there a way between the two marked nodes; triangle_parity: is the number of triangles odd");
  visit.integer("nodes_minimum", nodes_minimum, nodes, "nodes of the smallest graphs");
  visit.integer("nodes_maximum", nodes_maximum, nodes, "nodes of the largest graphs");
  visit.integer("test_nodes_minimum", test_nodes_minimum, nodes, "nodes_minimum of the test split");
  visit.integer("test_nodes_maximum", test_nodes_maximum, nodes, "nodes_maximum of the test split");
  visit.real("mean_degree", mean_degree, {.minimum = 0, .maximum = kMostNodes - 1, .exclusive_minimum = true},
             "edges of a node on average, before graphs are chosen for their answer; from 1 on large connected parts appear");
  visit.choice(
      "positions", positions, {"adjacency", "laplacian"},
      "how a node says where it is: its row of the adjacency matrix beside its own place, or its entries in the lowest eigenvectors "
      "of the normalised Laplacian, a random sign each, and their eigenvalues");
  visit.integer("position_dimension", position_dimension, {.minimum = 1, .maximum = kMostNodes - 1},
                "eigenvectors of laplacian; the trivial one does not count");
}

void GraphsConfig::validate() const {
  ADATAPE_CHECK(nodes_minimum <= nodes_maximum, kGraphsWhere, "expected nodes_minimum <= nodes_maximum, got ", nodes_minimum, " and ",
                nodes_maximum);
  ADATAPE_CHECK(test_nodes_minimum <= test_nodes_maximum, kGraphsWhere, "expected test_nodes_minimum <= test_nodes_maximum, got ",
                test_nodes_minimum, " and ", test_nodes_maximum);
  const int64_t smallest = std::min(nodes_minimum, test_nodes_minimum);
  ADATAPE_CHECK(mean_degree <= static_cast<double>(smallest - 1), kGraphsWhere, "expected a mean_degree of at most ", smallest - 1,
                ", all other nodes of the smallest graphs, got ", mean_degree);
}

int64_t GraphsConfig::largest() const { return std::max(nodes_maximum, test_nodes_maximum); }

InputSpec GraphsConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = kFeatures + 2 * (positions == "adjacency" ? largest() : position_dimension);
  spec.length = largest();
  spec.classes = kGraphsClasses;
  return spec;
}

GraphsTask::GraphsTask(const GraphsConfig& config)
    : DrawnTask(kGraphsWhere, kGraphsHeldOutSeed, config.input_spec(), kGraphsClasses), config_(config) {
  config_.validate();
}

GraphsTask::Question GraphsTask::draw_question(CounterRng& random, int64_t nodes, bool yes) const {
  for (int i = 0; i < kMostDraws; ++i) {
    Question drawn{Graph::random(random, nodes, config_.mean_degree), {-1, -1}};
    if (!connectivity()) {
      if ((drawn.graph.triangles() % 2 == 1) == yes) return drawn;
      continue;
    }
    const auto first = static_cast<int64_t>(random.below(static_cast<uint64_t>(nodes)));
    const int64_t second = (first + 1 + static_cast<int64_t>(random.below(static_cast<uint64_t>(nodes - 1)))) % nodes;
    // A mark without edges would give the answer away.
    if (drawn.graph.degree(first) == 0 || drawn.graph.degree(second) == 0) continue;
    drawn.marks[0] = first;
    drawn.marks[1] = second;
    if ((drawn.graph.distance(first, second) > 0) == yes) return drawn;
  }
  throw Error(concat(kGraphsWhere, ": expected a mean_degree at which both answers occur, got ", config_.mean_degree, ": none of ",
                     kMostDraws, " graphs of ", nodes, " nodes had the answer \"", class_names()[yes], "\"; bring it closer to ",
                     connectivity() ? "1.5" : "4"));
}

void GraphsTask::write_adjacency(CounterRng& random, const Graph& graph, float* vectors) const {
  const int64_t dimension = input_spec().dimension, places = config_.largest();
  std::vector<int64_t> place(static_cast<size_t>(places));
  std::iota(place.begin(), place.end(), int64_t{0});
  for (int64_t i = 0; i < graph.nodes(); ++i) {
    std::swap(place[static_cast<size_t>(i)], place[static_cast<size_t>(i) + random.below(static_cast<uint64_t>(places - i))]);
  }
  for (int64_t a = 0; a < graph.nodes(); ++a) {
    float* vector = vectors + a * dimension + kFeatures;
    vector[place[static_cast<size_t>(a)]] = 1;
    for (int64_t b = 0; b < graph.nodes(); ++b) vector[places + place[static_cast<size_t>(b)]] = graph.edge(a, b);
  }
}

void GraphsTask::write_laplacian(CounterRng& random, const Graph& graph, float* vectors) const {
  const int64_t dimension = input_spec().dimension, count = config_.position_dimension;
  const LaplacianPositions positions = laplacian_positions(graph, count);
  for (int64_t i = 0; i < count; ++i) {
    const double sign = random.below(2) == 1 ? -1 : 1;
    for (int64_t node = 0; node < graph.nodes(); ++node) {
      float* vector = vectors + node * dimension + kFeatures;
      vector[i] = static_cast<float>(sign * positions.vectors[static_cast<size_t>(i * graph.nodes() + node)]);
      vector[count + i] = static_cast<float>(positions.values[static_cast<size_t>(i)]);
    }
  }
}

void GraphsTask::draw(CounterRng& random, Split split, DrawnExamples& examples) const {
  const bool test = split == Split::kTest;
  const int64_t least = test ? config_.test_nodes_minimum : config_.nodes_minimum,
                most = test ? config_.test_nodes_maximum : config_.nodes_maximum;
  const int64_t nodes = least + static_cast<int64_t>(random.below(static_cast<uint64_t>(most - least + 1)));
  const bool yes = random.below(2) == 1;
  const Question drawn = draw_question(random, nodes, yes);
  const int64_t dimension = input_spec().dimension;
  const size_t begin = examples.vectors.size();
  examples.vectors.resize(begin + static_cast<size_t>(nodes * dimension), 0.0f);
  float* vectors = examples.vectors.data() + begin;
  for (int64_t node = 0; node < nodes; ++node) {
    vectors[node * dimension + kDegree] = static_cast<float>(drawn.graph.degree(node));
    vectors[node * dimension + kMark] = node == drawn.marks[0] || node == drawn.marks[1];
  }
  if (config_.positions == "adjacency") {
    write_adjacency(random, drawn.graph, vectors);
  } else {
    write_laplacian(random, drawn.graph, vectors);
  }
  examples.labels.push_back(yes);
  examples.end_example(nodes);
}

at::Tensor GraphsTask::example_covariate(const Batch& batch) const {
  const at::Tensor vectors = batch.vectors.cpu().contiguous();
  const int64_t dimension = input_spec().dimension, places = config_.largest();
  at::Tensor numbers = at::empty({batch.size()}, at::kFloat);
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t begin = batch.offsets[static_cast<size_t>(b)], end = batch.offsets[static_cast<size_t>(b) + 1];
    const float* first = vectors.const_data_ptr<float>() + begin * dimension;
    Graph graph(places);  // by place; places without a node have no edges
    std::vector<int64_t> marks;
    double degrees = 0;
    for (int64_t node = 0; node < end - begin; ++node) {
      const float* vector = first + node * dimension;
      degrees += vector[kDegree];
      if (config_.positions != "adjacency") continue;
      const int64_t place = std::find(vector + kFeatures, vector + kFeatures + places, 1.0f) - (vector + kFeatures);
      if (vector[kMark] != 0) marks.push_back(place);
      for (int64_t other = 0; other < places; ++other) {
        if (vector[kFeatures + places + other] != 0) graph.connect(place, other);
      }
    }
    const int64_t known = config_.positions != "adjacency" ? static_cast<int64_t>(degrees) / 2
                          : connectivity()                 ? std::max<int64_t>(graph.distance(marks.at(0), marks.at(1)), 0)
                                                           : graph.triangles();
    numbers.data_ptr<float>()[b] = static_cast<float>(known);
  }
  return numbers;
}

std::string GraphsTask::covariate_name() const {
  return config_.positions != "adjacency" ? "edges" : connectivity() ? "distance (0: apart)" : "triangles";
}

std::vector<std::string> GraphsTask::class_names() const {
  return connectivity() ? std::vector<std::string>{"apart", "connected"} : std::vector<std::string>{"even", "odd"};
}

std::unique_ptr<TaskConfig> make_graphs_config() { return std::make_unique<GraphsConfig>(); }

std::unique_ptr<Task> make_graphs_task(const TaskConfig& config) {
  return std::make_unique<GraphsTask>(configuration_of<GraphsConfig>(config, kGraphsWhere));
}

}  // namespace adatape
