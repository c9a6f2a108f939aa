// adatape::tape_read as its users see it: hand-made numbers, what is selected, the gradient through autograd, errors.
#include "adatape/ops/tape_read/tape_read.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "adatape/core/check.h"
#include "tests/ops/tape_read_cases.h"

namespace adatape::ops {
namespace {

using testing::HasSubstr;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

TapeReadResult read(const Reading& reading) {
  const TapeReadInputs& in = reading.inputs;
  return tape_read(in.query, in.bank, in.bank_offsets, in.norm_weight, in.norm_bias, reading.options, in.thresholds, in.step_limits,
                   in.bank_mask, in.order, in.query_offset);
}

std::vector<int64_t> integers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

class TapeRead : public testing::TestWithParam<Kernel> {
 protected:
  bool cuda() const { return GetParam().name == std::string("cuda"); }
  at::ScalarType type() const { return cuda() ? at::kFloat : at::kDouble; }  // that the kernel serves
  double tolerance() const { return cuda() ? 1e-6 : 1e-12; }

 private:
  void SetUp() override {
    if (cuda()) need_cuda();
  }
};
INSTANTIATE_TEST_SUITE_P(All, TapeRead, testing::Values(kReference, kCpu, kCuda), kernel_of);

// Rows (1, -1) and (-1, 1) are their own LayerNorm, so every number can be followed by hand.
Reading by_hand(at::ScalarType type, const TapeReadOptions& options) {
  Reading reading{"by hand", {}, options};
  reading.inputs.query = torch::tensor({{1.0, -1.0}}, type);
  reading.inputs.bank = torch::tensor({{-2.0, 2.0}, {3.0, -3.0}, {-1.0, 1.0}, {1.0, -1.0}}, type);
  reading.inputs.bank_offsets = torch::tensor({0, 4}, at::kLong);
  reading.inputs.norm_weight = at::ones({2}, type);
  reading.inputs.norm_bias = at::zeros({2}, type);
  return reading;
}

TEST_P(TapeRead, FollowsTheEquationsByHand) {
  // q = 1, scores (-1, 1, -1, 1), d = 1. Step 0 reads rows 1 and 3 with weights 1/2: z = (1, -1), q stays 1.
  // Step 1 reads rows 0 and 2, again evenly: z = (-1, 1). Then the bank is empty.
  const Reading reading = by_hand(type(), {.key_width = 1, .max_steps = 5, .rows_per_step = 2, .threshold = kInfinity, .norm_epsilon = 0});
  const auto [tokens, weights, indices, lengths, ponder, halting] = GetParam().forward(reading.inputs, reading.options);
  EXPECT_THAT(integers(lengths), testing::ElementsAre(2));
  EXPECT_THAT(integers(indices), testing::ElementsAre(1, 3, 0, 2, -1, -1, -1, -1, -1, -1));
  expect_close(tokens, torch::tensor({{{1.0, -1.0}, {-1.0, 1.0}, {0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}}}, at::kDouble), tolerance(), "tokens");
  expect_close(weights, torch::tensor({{{0.5, 0.5}, {0.5, 0.5}, {0.0, 0.0}, {0.0, 0.0}, {0.0, 0.0}}}, at::kDouble), tolerance(), "weights");
  expect_close(ponder, torch::tensor({1.0}, at::kDouble), tolerance(), "ponder");
  expect_close(halting, torch::tensor({{0.5, 1.0, 0.0, 0.0, 0.0}}, at::kDouble), tolerance(), "halting");

  // With the normalised query moved from 1 to -3 the other two rows come first: q = (-3 - 1) / 2 after them.
  Reading moved = reading;
  moved.inputs.query_offset = torch::tensor({{-4.0}}, at::kDouble);
  EXPECT_THAT(integers(std::get<2>(GetParam().forward(moved.inputs, moved.options))),
              testing::ElementsAre(0, 2, 1, 3, -1, -1, -1, -1, -1, -1));

  // Three rows a step: softmax of (1, 1, -1) is (a, a, a e^-2), z = a (2 - e^-2) (1, -1), ponder 1 - a^2 (2 + e^-4).
  const Reading three = by_hand(type(), {.key_width = 1, .max_steps = 1, .rows_per_step = 3, .threshold = 1, .norm_epsilon = 0});
  const TapeReadResult result = GetParam().forward(three.inputs, three.options);
  const double a = 1 / (2 + std::exp(-2)), z = a * (2 - std::exp(-2));
  EXPECT_THAT(integers(std::get<2>(result)), testing::ElementsAre(1, 3, 0));
  expect_close(std::get<0>(result), torch::tensor({{{z, -z}}}, at::kDouble), tolerance(), "tokens");
  expect_close(std::get<4>(result), torch::tensor({1 - a * a * (2 + std::exp(-4))}, at::kDouble), tolerance(), "ponder");
  Reading largest = three;
  largest.options.ponder = "max";
  expect_close(std::get<4>(GetParam().forward(largest.inputs, largest.options)), torch::tensor({1 - a}, at::kDouble), tolerance(),
               "ponder");
}

TEST_P(TapeRead, EqualWeightsReachTheThresholdDespiteRounding) {
  // Every weight is 1/5, so ten steps make 2 up to rounding.
  Reading reading = make_reading("equal", {60}, 8, {4, 12, 5, 2.0, "average", "entropy", 1e-6});
  reading.inputs.bank = reading.inputs.bank.narrow(0, 0, 1).repeat({60, 1});
  const TapeReadResult result = GetParam().forward(reading.inputs, reading.options);
  EXPECT_THAT(integers(std::get<3>(result)), testing::ElementsAre(10));
  std::vector<int64_t> ascending(50);  // ties go to the lower index, so rows are read in their order
  for (int64_t i = 0; i < 50; ++i) ascending[i] = i;
  EXPECT_EQ(integers(std::get<2>(result).flatten().narrow(0, 0, 50)), ascending);
}

TEST_P(TapeRead, IdenticalRowsScoreIdenticalBits) {
  at::manual_seed(11);
  Reading reading = make_reading("identical", {203}, 37, {19, 40, 3, kInfinity, "average", "entropy", 1e-6});
  reading.inputs.bank = reading.inputs.bank.narrow(0, 0, 7).repeat({29, 1}).contiguous();  // row j equals row j mod 7
  const auto [tokens, weights, indices, lengths, ponder, halting] = GetParam().forward(reading.inputs, reading.options);
  std::vector<int64_t> next(7, 0);
  for (int64_t row : integers(indices)) {
    EXPECT_EQ(row / 7, next[row % 7]++) << "copies of a row are read in their order";
  }
}

TEST_P(TapeRead, NumbersComeBeforeNaN) {
  Reading reading = by_hand(type(), {.key_width = 1, .max_steps = 3, .rows_per_step = 2, .threshold = kInfinity, .norm_epsilon = 0});
  reading.inputs.bank[1].fill_(NAN);
  const auto [tokens, weights, indices, lengths, ponder, halting] = GetParam().forward(reading.inputs, reading.options);
  EXPECT_THAT(integers(indices), testing::ElementsAre(3, 0, 2, 1, -1, -1));
  EXPECT_TRUE(tokens[0][0].isfinite().all().item<bool>());
  EXPECT_TRUE(tokens[0][1].isnan().all().item<bool>());
}

TEST_P(TapeRead, ReadsInAGivenOrder) {
  Reading reading = by_hand(type(), {.key_width = 1, .max_steps = 3, .rows_per_step = 2, .threshold = kInfinity, .norm_epsilon = 0});
  reading.inputs.order = torch::tensor({2, 3, 1, 0}, at::kLong);
  reading.inputs.bank_mask = torch::tensor({true, false, true, true});
  const TapeReadResult result = GetParam().forward(reading.inputs, reading.options);
  const auto& [tokens, weights, indices, lengths, ponder, halting] = result;
  EXPECT_THAT(integers(indices), testing::ElementsAre(2, 3, 0, -1, -1, -1));
  expect_close(weights, torch::tensor({{{0.5, 0.5}, {1.0, 0.0}, {0.0, 0.0}}}, at::kDouble), 0, "weights");
  expect_close(ponder, torch::tensor({0.5}, at::kDouble), 0, "ponder");
  const TapeReadGradients gradients =
      run_backward(GetParam(), reading, result, at::ones_like(tokens), at::ones_like(weights), at::ones_like(ponder));
  EXPECT_EQ(std::get<0>(gradients).abs().max().item<double>(), 0);  // no gradient of the query
}

TEST_P(TapeRead, OnlyRowsReadHaveAGradient) {
  at::manual_seed(5);
  const Reading reading = make_reading("sparse", {30, 40}, 8, {4, 2, 3, 2.0, "average", "entropy", 1e-6});
  const TapeReadResult result = GetParam().forward(reading.inputs, reading.options);
  const at::Tensor grad_bank =
      std::get<1>(run_backward(GetParam(), reading, result, at::randn_like(std::get<0>(result)), std::nullopt, std::nullopt));
  EXPECT_EQ((grad_bank.abs().sum(1) > 0).sum().item<int64_t>(), (std::get<2>(result) >= 0).sum().item<int64_t>());
}

TEST_P(TapeRead, AHaltedStepHasNoGradient) {
  at::manual_seed(6);
  const Reading reading = make_reading("poisoned", {30, 40}, 8, {4, 8, 3, 1.0, "average", "entropy", 1e-6}, type());
  const TapeReadResult result = GetParam().forward(reading.inputs, reading.options);
  at::Tensor grad_tokens = at::randn_like(std::get<0>(result)), grad_weights = at::randn_like(std::get<1>(result));
  const TapeReadGradients expected = run_backward(GetParam(), reading, result, grad_tokens, grad_weights, std::nullopt);
  const at::Tensor unread = std::get<2>(result) < 0;
  grad_weights.masked_fill_(unread, NAN);
  grad_tokens.masked_fill_(unread.select(2, 0).unsqueeze(2), NAN);
  expect_close(run_backward(GetParam(), reading, result, grad_tokens, grad_weights, std::nullopt), expected, 0, "poisoned");
}

TEST(TapeReadOp, RunsTheKernelOfItsDtypeAndSaysWhich) {
  EXPECT_EQ(tape_read_kernel_name(at::kCPU, at::kFloat), "cpu");
  EXPECT_EQ(tape_read_kernel_name(at::kCPU, at::kDouble), "cpu");
  EXPECT_EQ(tape_read_kernel_name(at::kCPU, at::kBFloat16), "reference");
  at::manual_seed(1);
  Reading reading = make_reading("dispatch", {9, 30}, 8, {4, 4, 2, 2.0, "average", "entropy", 1e-6});
  expect_close(read(reading), kCpu.forward(reading.inputs, reading.options), 0, "float");
  for (auto member : {&TapeReadInputs::query, &TapeReadInputs::bank}) reading.inputs.*member = (reading.inputs.*member).to(at::kBFloat16);
  const TapeReadResult low = read(reading);  // norm parameters may stay in float
  expect_close(low, kReference.forward(reading.inputs, reading.options), 0, "bfloat16");
  EXPECT_EQ(std::get<0>(low).scalar_type(), at::kBFloat16);
  EXPECT_EQ(std::get<1>(low).scalar_type(), at::kFloat);
}

// The shortest example decides, whatever the others have.
TEST(TapeReadOp, TheKernelOnCudaIsGivenBanksWhoseExamplesAllHaveRowsEnough) {
  const auto suffice = [](const std::vector<int64_t>& offsets) {
    return tape_read_rows_suffice(torch::tensor(offsets, at::kLong), offsets.back());
  };
  EXPECT_TRUE(suffice({0, 512, 1024}));
  EXPECT_TRUE(suffice({0, 512, 1424, 9000}));
  EXPECT_FALSE(suffice({0, 511, 9000}));
  EXPECT_FALSE(suffice({0, 5000, 5000, 9000}));
  EXPECT_FALSE(suffice({0, 4000, 4100}));
  EXPECT_FALSE(suffice({0, 500, 1000}));
  EXPECT_TRUE(suffice({0, 512}));
  EXPECT_FALSE(suffice({0, 511}));
}

TEST(TapeReadOp, GivesGradientsThroughAutograd) {
  at::manual_seed(2);
  for (bool shared : {false, true}) {
    Reading reading = make_reading("autograd", {20, 20}, 8, {4, 4, 2, 2.0, "average", "entropy", 1e-6}, at::kDouble, shared);
    reading.inputs.query_offset = at::randn({2, 4}, at::kDouble);
    const TapeReadResult plain = kCpu.forward(reading.inputs, reading.options);
    const at::Tensor for_tokens = at::randn_like(std::get<0>(plain)), for_weights = at::randn_like(std::get<1>(plain));
    const TapeReadGradients expected = run_backward(kReference, reading, plain, for_tokens, for_weights, at::ones_like(std::get<4>(plain)));
    TapeReadInputs& in = reading.inputs;
    for (at::Tensor* input : {&in.query, &in.bank, &in.norm_weight, &in.norm_bias}) input->set_requires_grad(true);
    const auto [tokens, weights, indices, lengths, ponder, halting] = read(reading);
    EXPECT_TRUE(tokens.requires_grad() && weights.requires_grad() && ponder.requires_grad());
    EXPECT_FALSE(indices.requires_grad() || lengths.requires_grad() || halting.requires_grad());
    ((tokens * for_tokens).sum() + (weights * for_weights).sum() + ponder.sum()).backward();
    expect_close(TapeReadGradients{in.query.grad(), in.bank.grad(), in.norm_weight.grad(), in.norm_bias.grad()}, expected, 1e-12,
                 "autograd");
  }
}

TEST(TapeReadOp, AGradientAskedForAloneIsTheSame) {
  at::manual_seed(4);
  for (const bool shared : {false, true}) {
    const Reading reading = make_reading("alone", {9, 9}, 8, {4, 4, 2, 2.0, "average", "entropy", 1e-6}, at::kFloat, shared);
    const auto gradients = [&](const std::vector<bool>& wanted) {  // of query, bank, norm_weight, norm_bias
      Reading own = reading;
      std::vector<at::Tensor> leaves;
      size_t i = 0;
      for (at::Tensor* input : {&own.inputs.query, &own.inputs.bank, &own.inputs.norm_weight, &own.inputs.norm_bias}) {
        *input = input->detach().requires_grad_(wanted[i++]);
        if (input->requires_grad()) leaves.push_back(*input);
      }
      const TapeReadResult result = read(own);
      return torch::autograd::grad({std::get<0>(result).square().sum() + std::get<1>(result).square().sum() + std::get<4>(result).sum()},
                                   leaves);
    };
    const std::vector<at::Tensor> together = gradients({true, true, true, true});
    for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(gradients({i == 0, i == 1, i == 2, i == 3})[0].equal(together[i])) << i << " " << shared;
  }
}

TEST(TapeReadOp, HasNoSecondDerivative) {
  Reading reading = make_reading("second", {20}, 8, {4, 4, 2, 2.0, "average", "entropy", 1e-6});
  reading.inputs.query.set_requires_grad(true);
  const at::Tensor loss = std::get<0>(read(reading)).pow(2).sum();
  const at::Tensor first = torch::autograd::grad({loss}, {reading.inputs.query}, {}, true, /*create_graph=*/true)[0];
  try {
    first.pow(2).sum().backward();
    FAIL() << "a second derivative was returned";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tape_read: expected one differentiation, got a second one"));
  }
}

// Bytes of tensors alive on this thread.
class LiveBytes : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override { peak_ = std::max(peak_, bytes_ += size); }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t bytes() const { return bytes_; }
  int64_t peak() const { return peak_; }

 private:
  int64_t bytes_ = 0, peak_ = 0;
};

TEST(TapeReadOp, KeepsNothingBesidesInputsAndOutputs) {
  for (at::ScalarType type : {at::kFloat, at::kBFloat16}) {  // the CPU kernel and the reference
    Reading reading = make_reading("memory", {3000, 2000}, 256, {32, 4, 5, 2.0, "average", "entropy", 1e-6}, type);
    for (at::Tensor* input : {&reading.inputs.query, &reading.inputs.bank, &reading.inputs.norm_weight}) input->set_requires_grad(true);
    auto live = std::make_shared<LiveBytes>();
    c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    const TapeReadResult result = read(reading);
    int64_t outputs = 0;
    std::apply([&](const auto&... tensor) { ((outputs += tensor.nbytes()), ...); }, result);
    EXPECT_TRUE(std::get<0>(result).requires_grad());
    EXPECT_GE(live->bytes(), outputs);
    EXPECT_LE(live->bytes(), outputs + 1024) << "the bank has " << reading.inputs.bank.nbytes() << " bytes";
  }
}

// 32 banks of 784 rows, T 10, K 5. Beyond the banks and their gradient: the rows read and their gradients, never a copy of a bank.
TEST(TapeReadOp, ForwardAndBackwardPeakFarBelowTheBank) {
  constexpr int64_t kBatch = 32, kRows = 784, kWidth = 768, kSteps = 10, kRowsPerStep = 5;
  Reading reading =
      make_reading("peak", std::vector<int64_t>(kBatch, kRows), kWidth, {64, kSteps, kRowsPerStep, 10.0, "average", "entropy", 1e-6});
  for (at::Tensor* input : {&reading.inputs.query, &reading.inputs.bank, &reading.inputs.norm_weight}) input->set_requires_grad(true);
  auto live = std::make_shared<LiveBytes>();
  {
    c10::DebugInfoGuard guard(c10::DebugInfoKind::PROFILER_STATE, live);
    torch::autograd::backward({std::get<0>(read(reading)).sum()}, {});
  }
  ASSERT_TRUE(reading.inputs.bank.grad().defined());
  const int64_t rows_read = kBatch * kSteps * kRowsPerStep * kWidth * 4;
  RecordProperty("peak_bytes", std::to_string(live->peak()));
  std::printf("peak beyond the banks and their gradient: %.1f MB, the banks: %.1f MB\n", static_cast<double>(live->peak()) / 1e6,
              static_cast<double>(reading.inputs.bank.nbytes()) / 1e6);
  EXPECT_GT(live->peak(), rows_read / kRowsPerStep);
  EXPECT_LE(live->peak(), 2 * rows_read);
}

TEST(TapeReadOp, KnowsItsShapesWithoutData) {
  const auto meta = at::TensorOptions(at::kMeta);
  const auto [tokens, weights, indices, lengths, ponder, halting] =
      tape_read(at::empty({3, 8}, meta), at::empty({20, 8}, meta), at::empty({4}, meta.dtype(at::kLong)), at::empty({8}, meta),
                at::empty({8}, meta), {.key_width = 4, .max_steps = 6, .rows_per_step = 2});
  EXPECT_EQ(tokens.sizes(), at::IntArrayRef({3, 6, 8}));
  EXPECT_EQ(weights.sizes(), at::IntArrayRef({3, 6, 2}));
  EXPECT_EQ(indices.sizes(), at::IntArrayRef({3, 6, 2}));
  EXPECT_EQ(indices.scalar_type(), at::kLong);
  EXPECT_EQ(lengths.sizes(), at::IntArrayRef({3}));
  EXPECT_EQ(halting.sizes(), at::IntArrayRef({3, 6}));
}

// Changes a good reading and expects this text.
void expect_error(const std::function<void(Reading&)>& change, const std::string& text) {
  Reading reading = make_reading("good", {3, 4}, 8, {4, 4, 2, 2.0, "average", "entropy", 1e-6});
  change(reading);
  try {
    read(reading);
    ADD_FAILURE() << "expected: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "tape_read: " + text);
  }
}

TEST(TapeReadOp, SaysWhatDoesNotFit) {
  expect_error([](Reading& r) { r.inputs.query = at::zeros({8}); }, "expected query [batch, width], got [8]");
  expect_error([](Reading& r) { r.inputs.query = at::zeros({2, 8}, at::kLong); }, "expected query of a floating dtype, got Long");
  expect_error([](Reading& r) { r.inputs.bank = at::zeros({7, 9}); }, "expected bank [rows, 8] as query is [2, 8], got [7, 9]");
  expect_error([](Reading& r) { r.inputs.bank = at::zeros({7, 8}, at::kDouble); }, "expected bank (like query) of dtype Float, got Double");
  expect_error([](Reading& r) { r.inputs.norm_bias = at::zeros({9}); }, "expected norm_bias [8], got [9]");
  expect_error([](Reading& r) { r.inputs.norm_weight = at::ones({8}, at::kHalf); },
               "expected norm_weight of dtype Float (or Float beside Half and BFloat16), got Half");
  expect_error([](Reading& r) { r.inputs.bank_offsets = at::zeros({3}, at::kInt); }, "expected bank_offsets of dtype Long, got Int");
  expect_error([](Reading& r) { r.inputs.bank_offsets = at::zeros({4}, at::kLong); }, "expected bank_offsets (batch + 1) [3], got [4]");
  expect_error(
      [](Reading& r) {
        r.inputs.bank_offsets = torch::tensor({0, 3, 8}, at::kLong);
      },
      "expected bank_offsets from 0 to 7 (rows of the bank), got 0 to 8");
  expect_error(
      [](Reading& r) {
        r.inputs.bank_offsets = torch::tensor({0, 9, 7}, at::kLong);
      },
      "expected bank_offsets that never fall, got 9 then 7 at example 1");
  expect_error([](Reading& r) { r.options.key_width = 9; }, "expected 1 <= key_width <= width 8, got 9");
  expect_error([](Reading& r) { r.options.max_steps = -1; }, "expected max_steps >= 0, got -1");
  expect_error([](Reading& r) { r.options.rows_per_step = 0; }, "expected rows_per_step >= 1, got 0");
  expect_error([](Reading& r) { r.options.threshold = NAN; }, "expected a threshold, got nan");
  expect_error([](Reading& r) { r.options.query_update = "mean"; }, "expected query_update \"average\" or \"replace\", got \"mean\"");
  expect_error([](Reading& r) { r.options.ponder = "min"; }, "expected ponder \"entropy\" or \"max\", got \"min\"");
  expect_error([](Reading& r) { r.options.norm_epsilon = -1; }, "expected a finite norm_epsilon >= 0, got -1");
  expect_error([](Reading& r) { r.inputs.thresholds = at::ones({3}); }, "expected thresholds (one for each example) [2], got [3]");
  expect_error(
      [](Reading& r) {
        r.inputs.step_limits = torch::tensor({1, 5}, at::kLong);
      },
      "expected step_limits in 0 .. max_steps 4, got 5 for example 1");
  expect_error([](Reading& r) { r.inputs.bank_mask = at::ones({2, 7}, at::kBool); }, "expected bank_mask (packed rows) [7], got [2, 7]");
  expect_error(
      [](Reading& r) {
        r.inputs.order = torch::tensor({0, 1, 1, 0, 1, 2, 3}, at::kLong);
      },
      "expected order to be a permutation of 0 .. 2 for example 0, got 1 twice");
  expect_error(
      [](Reading& r) {
        r.inputs.order = torch::tensor({0, 1, 2, 0, 1, 2, 7}, at::kLong);
      },
      "expected order to be a permutation of 0 .. 3 for example 1, got 7");
  expect_error(
      [](Reading& r) {
        r.inputs.query_offset = at::zeros({2, 8});
      },
      "expected query_offset (batch, key_width) [2, 4], got [2, 8]");
  expect_error(
      [](Reading& r) {
        r.inputs.query_offset = at::zeros({2, 4}, at::kLong);
      },
      "expected query_offset of a floating dtype, got Long");
  expect_error([](Reading& r) { r.inputs.bank = at::zeros({7, 8}, at::kMeta); }, "expected bank on cpu like query, got meta");
}

}  // namespace
}  // namespace adatape::ops
