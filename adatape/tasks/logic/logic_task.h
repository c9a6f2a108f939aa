// Logic: chains of binary gates, a chain a vector; what comes out at the end? Source: arXiv 1603.08983, section 3.2.
#pragma once

#include <memory>

#include "adatape/tasks/drawn_task.h"

namespace adatape {

struct LogicConfig : TaskConfig {
  int64_t vectors = 10;       // of the longest sequence; lengths are drawn from 1 on
  int64_t gates_minimum = 1;  // of a chain
  int64_t gates_maximum = 10;

  LogicConfig() { name = "logic"; }
  void fields(FieldVisitor& visit) override;
  void validate() const override;
  InputSpec input_spec() const override;
};

// Truth tables in the order of the one-hot numbers: NOR, not p and q, p and not q, XOR, NAND, AND, XNOR, if p then q, if q then p, OR.
bool apply_gate(int64_t gate, bool p, bool q);

// A vector holds b_0, b_1 and gates_maximum one-hot numbers of gates, zeros behind the chain's end. Gate i makes b_{i+1} from p = b_i and
// q = b_{i-1}; asked is the last one. In later vectors of a sequence b_0 is the answer of the vector before, and the input has a 0 there.
// vectors = 1: an example is one vector and its answer (InputSpec::answers_each is off).
class LogicTask : public DrawnTask {
 public:
  explicit LogicTask(const LogicConfig& config);

  // float32 [B] on the CPU: gates of the chain where an example is one vector, else vectors.
  at::Tensor example_covariate(const Batch& batch) const override;
  std::string covariate_name() const override { return config_.vectors == 1 ? "gates" : "vectors"; }
  at::Tensor element_covariate(const Batch& batch) const override;  // gates
  std::string element_covariate_name() const override { return "gates"; }
  std::vector<std::string> class_names() const override { return {"0", "1"}; }

 protected:
  void draw(CounterRng& random, Split split, DrawnExamples& examples) const override;

 private:
  LogicConfig config_;
};

std::unique_ptr<TaskConfig> make_logic_config();
std::unique_ptr<Task> make_logic_task(const TaskConfig& config);

}  // namespace adatape
