// Every model on CUDA in float32 answers, reads and learns as on the CPU.
#include <cmath>
#include <numeric>

#include "model_cases.h"
#include "tests/cuda.h"

namespace adatape {
namespace {

using testing::ModelCase;

class EveryModelOnCuda : public ::testing::TestWithParam<ModelCase> {
 protected:
  void SetUp() override { need_cuda(); }
};

ModelOutput forward(Model& model, const Batch& batch, bool training) {
  return model.forward(batch, {.training = training, .record = true, .seed = 3, .step = 11});
}

void expect_same(const ModelOutput& got, const ModelOutput& expected) {
  EXPECT_LE(relative_error(got.logits, expected.logits), 1e-4);
  EXPECT_TRUE(got.logits.is_cuda());
  EXPECT_EQ(got.block_tokens, expected.block_tokens);
  ASSERT_EQ(got.readings.size(), expected.readings.size());
  for (size_t r = 0; r < got.readings.size(); ++r) {
    EXPECT_TRUE(got.readings[r].lengths.cpu().equal(expected.readings[r].lengths.cpu())) << "reading " << r;
    EXPECT_TRUE(got.readings[r].indices.cpu().equal(expected.readings[r].indices.cpu())) << "reading " << r;
  }
  ASSERT_EQ(got.auxiliary_losses.size(), expected.auxiliary_losses.size());
  for (size_t i = 0; i < got.auxiliary_losses.size(); ++i) {
    EXPECT_LE(relative_error(got.auxiliary_losses[i].values, expected.auxiliary_losses[i].values), 1e-4) << got.auxiliary_losses[i].name;
  }
}

TEST_P(EveryModelOnCuda, AnswersAsOnTheCpu) {
  const torch::NoGradGuard no_grad;
  const auto here = GetParam().make(), there = GetParam().make();
  const torch::Device gpu = parse_device("cuda");
  there->to(gpu);
  const Batch batch = GetParam().batch();
  const ModelOutput expected = forward(*here, batch, /*training=*/false);
  const int64_t before = matrix_product_flops();
  const ProductRowCounter counter;
  const ModelOutput got = forward(*there, batch.to(gpu), /*training=*/false);
  const int64_t done = matrix_product_flops() - before;
  expect_same(got, expected);
  EXPECT_EQ(testing::product_rows_of(got), counter.rows());
  // The cost is what was computed, which for a single query may be another way than the CPU's. (Readers score inside one operator.)
  int64_t products = 0;
  for (const WorkItem& item : got.work) {
    if (item.part.find(" / scores") != std::string::npos || item.part.find(" / merge") != std::string::npos) continue;
    products += std::accumulate(item.rows.begin(), item.rows.end(), int64_t{0}) * item.flops_per_row;
  }
  EXPECT_EQ(products, done);
}

TEST_P(EveryModelOnCuda, GradientsAreThoseOfTheCpu) {
  const auto here = GetParam().make(), there = GetParam().make();
  const torch::Device gpu = parse_device("cuda");
  there->to(gpu);
  const Batch batch = GetParam().batch();
  const ModelOutput expected = forward(*here, batch, /*training=*/true), got = forward(*there, batch.to(gpu), /*training=*/true);
  expect_same(got, expected);
  for (const ModelOutput* output : {&expected, &got}) {
    const torch::Tensor& logits = output->logits;
    torch::Tensor objective = (logits * torch::linspace(-1, 1, logits.numel()).to(logits.device()).view_as(logits)).sum();
    for (const AuxiliaryLoss& loss : output->auxiliary_losses) objective = objective + loss.values.mean().to(logits.device());
    objective.backward();
  }
  const std::vector<NamedParameter> ours = here->named_parameters(), theirs = there->named_parameters();
  double all = 0;
  for (const NamedParameter& parameter : ours) {
    if (parameter.tensor.grad().defined()) all = std::hypot(all, parameter.tensor.grad().norm().item<double>());
  }
  EXPECT_GT(all, 0);
  for (size_t i = 0; i < ours.size(); ++i) {
    const torch::Tensor &own = ours[i].tensor.grad(), &other = theirs[i].tensor.grad();
    ASSERT_EQ(own.defined(), other.defined()) << ours[i].name;
    if (!own.defined()) continue;
    // A gradient that is nothing but rounding (all but cancelled) is held to the size of all of them.
    const double error = (other.cpu() - own).norm().item<double>();
    EXPECT_LE(error, 1e-4 * own.norm().item<double>() + 1e-6 * all) << ours[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryModelOnCuda, ::testing::ValuesIn(where_cuda_is(testing::model_cases())),
                         [](const auto& which) { return which.param.label; });

}  // namespace
}  // namespace adatape
