#include "adatape/tasks/logic/logic_task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "task_cases.h"

namespace adatape {
namespace {

using testing::refusal_of;
using testing::task_of;

TEST(LogicTask, TruthTables) {
  // Rows: p q = 00, 01, 10, 11.
  const std::vector<std::string> tables = {"1000", "0100", "0010", "0110", "1110", "0001", "1001", "1101", "1011", "0111"};
  for (int64_t gate = 0; gate < 10; ++gate) {
    for (int row = 0; row < 4; ++row)
      EXPECT_EQ(apply_gate(gate, row / 2 == 1, row % 2 == 1), tables[gate][row] == '1') << gate << " " << row;
  }
}

// Reads the input back and works the chains out by truth table.
TEST(LogicTask, AnswersFollowTheChains) {
  const auto task = task_of("logic");
  const Batch batch = task->training_batch(3, 1, 300);
  const at::Tensor gates_of = task->element_covariate(batch);
  std::set<int64_t> lengths, chains;
  for (int64_t b = 0; b < batch.size(); ++b) {
    lengths.insert(batch.offsets[b + 1] - batch.offsets[b]);
    bool before = false;
    for (int64_t e = batch.offsets[b]; e < batch.offsets[b + 1]; ++e) {
      const at::Tensor vector = batch.vectors[e];
      if (e == batch.offsets[b]) {
        before = vector[0].item<float>() == 1;
      } else {
        ASSERT_EQ(vector[0].item<float>(), 0);
      }
      bool bit = vector[1].item<float>() == 1;
      int64_t gates = 0;
      for (int64_t chunk = 0; chunk < 10; ++chunk) {
        const at::Tensor one_hot = vector.slice(0, 2 + 10 * chunk, 12 + 10 * chunk);
        if (one_hot.sum().item<float>() == 0) continue;
        ASSERT_EQ(chunk, gates++);  // no gap
        ASSERT_EQ(one_hot.sum().item<float>(), 1);
        const bool next = apply_gate(one_hot.argmax().item<int64_t>(), bit, before);
        before = bit;
        bit = next;
      }
      EXPECT_EQ(gates_of[e].item<float>(), static_cast<float>(gates));
      chains.insert(gates);
      ASSERT_EQ(batch.labels[e].item<int64_t>(), bit) << b << " " << e;
      before = bit;
    }
  }
  EXPECT_EQ(lengths.size(), 10u);
  EXPECT_EQ(chains.size(), 10u);
  EXPECT_EQ(*chains.begin(), 1);
  const double ones = batch.labels.to(at::kFloat).mean().item<double>();
  EXPECT_NEAR(ones, 0.5, 0.05);
}

TEST(LogicTask, OneVectorHasOneAnswer) {
  const auto task = task_of("logic", "vectors = 1\ngates_minimum = 2\ngates_maximum = 4");
  EXPECT_FALSE(task->input_spec().answers_each);
  EXPECT_EQ(task->input_spec().dimension, 42);
  EXPECT_EQ(task->covariate_name(), "gates");
  const Batch batch = task->training_batch(1, 0, 50);
  EXPECT_EQ(batch.labels.sizes(), (at::IntArrayRef{50}));
  EXPECT_EQ(task->example_covariate(batch).min().item<float>(), 2);
  EXPECT_EQ(task->example_covariate(batch).max().item<float>(), 4);
  EXPECT_EQ(refusal_of([] { task_of("logic", "gates_minimum = 11"); }),
            "task logic: expected gates_minimum <= gates_maximum, got 11 and 10");
}

}  // namespace
}  // namespace adatape
