// What holds for every task whose examples are drawn without end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "adatape/tasks/task.h"
#include "task_cases.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;
using testing::numbers;
using testing::refusal_of;
using testing::task_of;

class DrawnTasks : public ::testing::TestWithParam<const char*> {};

void expect_equal(const Batch& a, const Batch& b) {
  EXPECT_EQ(a.offsets, b.offsets);
  EXPECT_TRUE(a.labels.equal(b.labels));
  EXPECT_TRUE(a.examples.equal(b.examples));
  EXPECT_EQ(a.vectors.defined(), b.vectors.defined());
  EXPECT_TRUE(a.vectors.defined() ? a.vectors.equal(b.vectors) : a.symbols.equal(b.symbols));
}

const at::Tensor& elements_of(const Batch& batch) { return batch.vectors.defined() ? batch.vectors : batch.symbols; }

TEST_P(DrawnTasks, BatchesAreFunctionsOfSeedAndStep) {
  const auto task = task_of(GetParam());
  const Batch batch = task->training_batch(1, 5, 8), larger = task->training_batch(1, 5, 16);
  expect_equal(batch, task->training_batch(1, 5, 8));
  const int64_t total = batch.offsets.back();
  EXPECT_TRUE(elements_of(batch).equal(elements_of(larger).slice(0, 0, total)));
  for (const Batch& other : {task->training_batch(2, 5, 8), task->training_batch(1, 6, 8), task->held_out_batch(Split::kTest, 0, 8)}) {
    EXPECT_FALSE(elements_of(other).sizes() == elements_of(batch).sizes() && elements_of(other).equal(elements_of(batch)));
  }
}

TEST_P(DrawnTasks, HeldOutExamplesAreAlwaysTheSame) {
  const auto task = task_of(GetParam());
  for (const Split split : {Split::kValidation, Split::kTest}) {
    const Batch some = task->held_out_batch(split, 0, 10), later = task->held_out_batch(split, 4, 6);
    EXPECT_TRUE(elements_of(later).equal(elements_of(some).slice(0, some.offsets[4])));
    EXPECT_EQ(later.examples[0].item<int64_t>(), 4);
    EXPECT_EQ(task->held_out_batch(split, 3, 0).size(), 0);
  }
  EXPECT_FALSE(elements_of(task->held_out_batch(Split::kTest, 0, 1)).equal(elements_of(task->held_out_batch(Split::kValidation, 0, 1))));
  EXPECT_THAT(refusal_of([&] { task->held_out_batch(Split::kTest, 999'999, 2); }),
              HasSubstr("expected held-out examples within 0 .. 999999"));
  EXPECT_THAT(refusal_of([&] { task->held_out_batch(Split::kTrain, 0, 1); }), HasSubstr("got the training split"));
  EXPECT_EQ(task->epoch_size(), 0);
}

TEST_P(DrawnTasks, ShapesFitTheSpecification) {
  const auto task = task_of(GetParam());
  const InputSpec spec = task->input_spec();
  const Batch batch = task->training_batch(1, 0, 200);
  const int64_t total = batch.offsets.back();
  if (spec.kind == InputSpec::Kind::kVectors) {
    EXPECT_EQ(batch.vectors.sizes(), (at::IntArrayRef{total, spec.dimension}));
  } else {
    EXPECT_LT(batch.symbols.max().item<int64_t>(), spec.vocabulary);
    EXPECT_EQ(static_cast<int64_t>(task->symbol_names().size()), spec.vocabulary);
  }
  int64_t longest = 0;
  for (int64_t b = 0; b < batch.size(); ++b) longest = std::max(longest, batch.offsets[b + 1] - batch.offsets[b]);
  EXPECT_LE(longest, spec.length);
  const at::Tensor logits = at::zeros({spec.answers_each ? total : 200, spec.classes});
  const at::Tensor loss = task->example_loss(logits, batch);
  EXPECT_EQ(loss.sizes(), (at::IntArrayRef{200}));
  EXPECT_NEAR(loss[0].item<double>(), std::log(static_cast<double>(task->class_names().size())), 1e-5);
  EXPECT_EQ(task->example_correct(logits, batch).sizes(), (at::IntArrayRef{200}));
  EXPECT_EQ(task->example_covariate(batch).sizes(), (at::IntArrayRef{200}));
  if (const at::Tensor covariate = task->element_covariate(batch); covariate.defined()) {
    EXPECT_EQ(covariate.sizes(), (at::IntArrayRef{total}));
    EXPECT_GT(covariate.min().item<double>(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(All, DrawnTasks, ::testing::Values("logic", "addition", "sort", "nested_arithmetic", "graphs"),
                         [](const auto& one) { return std::string(one.param); });

}  // namespace
}  // namespace adatape
