// Products in bfloat16: where they are refused, and a whole block on CUDA against its float32 self on the CPU.
#include "adatape/nn/mixed_precision.h"

#include <ATen/autocast_mode.h>

#include "adatape/nn/encoder_block.h"
#include "nn_cases.h"
#include "tests/cuda.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;
using Kind = TokenKind;

const torch::Device kGpu(torch::kCUDA, 0);

bool autocasts() { return at::autocast::is_autocast_enabled(at::kCUDA); }

TEST(MixedPrecisionTest, FloatDoesNothingAnywhere) {
  for (const torch::Device device : {torch::Device(torch::kCPU), kGpu}) {
    const MixedPrecision precision(torch::kFloat, device);
    EXPECT_FALSE(autocasts());
    EXPECT_FALSE(ops::half_products());
  }
}

TEST(MixedPrecisionTest, OnlyBfloat16OnCudaIsServed) {
  EXPECT_EQ(error_of([] { MixedPrecision precision(torch::kBFloat16, torch::kCPU); }),
            "precision: expected float32, or bfloat16 on a CUDA device, got BFloat16 on cpu");
  EXPECT_THAT(error_of([] { MixedPrecision precision(torch::kHalf, kGpu); }), HasSubstr("got Half on cuda:0"));
  EXPECT_FALSE(autocasts());
  EXPECT_FALSE(ops::half_products());
}

class MixedPrecisionOnCuda : public ::testing::Test {
 protected:
  void SetUp() override { need_cuda(); }
};

TEST_F(MixedPrecisionOnCuda, EndsWithItsScope) {
  {
    const MixedPrecision outer(torch::kBFloat16, kGpu);
    EXPECT_TRUE(autocasts());
    EXPECT_TRUE(ops::half_products());
    { const MixedPrecision inner(torch::kBFloat16, kGpu); }
    EXPECT_TRUE(autocasts());
    EXPECT_TRUE(ops::half_products());
  }
  EXPECT_FALSE(autocasts());
  EXPECT_FALSE(ops::half_products());
}

std::shared_ptr<EncoderBlock> block_of(const EncoderBlockShape& shape) {
  auto block = std::make_shared<EncoderBlock>(shape);
  at::Generator generator = parameter_generator(1, 0);
  block->initialize(generator);
  testing::perturb(*block, 2, 0.05);
  return block;
}

// What a block makes of tokens on a device, FLOPs included.
struct Passed {
  torch::Tensor values;
  std::vector<NamedParameter> gradients;  // of parameters, and of x
  std::vector<WorkItem> work;
  int64_t flops = 0;
};

Passed pass(const EncoderBlockShape& shape, const std::vector<int64_t>& lengths, const std::vector<Kind>& kinds, torch::Device device,
            bool gradient) {
  const at::AutoGradMode mode(gradient);
  const auto block = block_of(shape);
  block->to(device);
  const auto layout = std::make_shared<const PackLayout>(lengths, kinds, device);
  const torch::Tensor x = testing::random_tensor({layout->total(), shape.width}, 3).to(device).requires_grad_(gradient);
  Passed passed;
  ForwardContext context;
  context.work = &passed.work;
  const int64_t before = matrix_product_flops();
  {
    const MixedPrecision precision(device.is_cuda() ? torch::kBFloat16 : torch::kFloat, device);
    passed.values = block->forward({x, layout}, context, 0).values;
  }
  passed.flops = matrix_product_flops() - before;
  if (!gradient) return passed;
  (passed.values * testing::random_tensor({layout->total(), shape.width}, 4).to(device)).sum().backward();
  for (const NamedParameter& parameter : block->named_parameters()) passed.gradients.push_back({parameter.name, parameter.tensor.grad()});
  passed.gradients.push_back({"x", x.grad()});
  return passed;
}

void expect_agreement(const EncoderBlockShape& shape, const std::vector<int64_t>& lengths, const std::vector<Kind>& kinds) {
  for (const bool gradient : {false, true}) {
    SCOPED_TRACE(::testing::Message() << "gradient " << gradient);
    const Passed expected = pass(shape, lengths, kinds, torch::kCPU, gradient), got = pass(shape, lengths, kinds, kGpu, gradient);
    // Without a gradient the block's own way hands on bfloat16: what says that it was taken.
    EXPECT_EQ(got.values.scalar_type(), gradient ? torch::kFloat : torch::kBFloat16);
    const torch::Tensor x = testing::random_tensor(expected.values.sizes().vec(), 3);
    EXPECT_LE(relative_error(got.values.detach().cpu().to(torch::kFloat) - x, expected.values.detach() - x), 2e-2) << "what the block adds";
    ASSERT_EQ(got.gradients.size(), expected.gradients.size());
    for (size_t i = 0; i < got.gradients.size(); ++i) {
      const auto& [name, tensor] = got.gradients[i];
      ASSERT_TRUE(tensor.defined()) << name;
      EXPECT_EQ(tensor.scalar_type(), torch::kFloat) << name;
      EXPECT_LE(relative_error(tensor, expected.gradients[i].tensor), 2e-2) << name;
    }
    EXPECT_EQ(got.flops, expected.flops);
    ASSERT_EQ(got.work.size(), expected.work.size());
    int64_t counted = 0;
    for (size_t i = 0; i < got.work.size(); ++i) {
      EXPECT_EQ(got.work[i].part, expected.work[i].part);
      EXPECT_EQ(got.work[i].rows, expected.work[i].rows);
      EXPECT_EQ(got.work[i].flops_per_row, expected.work[i].flops_per_row);
      for (const int64_t rows : got.work[i].rows) counted += rows * got.work[i].flops_per_row;
    }
    EXPECT_EQ(got.flops, counted);
  }
}

constexpr EncoderBlockShape kShape{64, 4, 128, 0, Gelu::kTanh, 0};

const std::vector<int64_t> kLengths = {5, 33, 1, 70, 19};

// The last third of each example.
std::vector<Kind> with_tape() {
  std::vector<Kind> kinds;
  for (const int64_t length : kLengths) {
    for (int64_t i = 0; i < length; ++i) kinds.push_back(3 * i >= 2 * length ? Kind::kTape : Kind::kInput);
  }
  return kinds;
}

TEST_F(MixedPrecisionOnCuda, ABlockAgreesWithFloat32) {
  for (const Gelu gelu : {Gelu::kTanh, Gelu::kExact}) {
    EncoderBlockShape shape = kShape;
    shape.gelu = gelu;
    expect_agreement(shape, kLengths, {});
  }
}

TEST_F(MixedPrecisionOnCuda, TapeTokensHaveTheirOwnNetwork) {
  EncoderBlockShape shape = kShape;
  shape.tape_ffn_width = 96;
  expect_agreement(shape, kLengths, with_tape());
}

TEST_F(MixedPrecisionOnCuda, ANetworkOfTapeTokensWithoutAny) {
  EncoderBlockShape shape = kShape;
  shape.tape_ffn_width = 96;
  const Passed expected = pass(shape, kLengths, {}, torch::kCPU, false), got = pass(shape, kLengths, {}, kGpu, false);
  EXPECT_EQ(got.values.scalar_type(), torch::kBFloat16);
  EXPECT_LE(relative_error(got.values, expected.values), 1e-2);
  EXPECT_EQ(got.flops, expected.flops);
}

TEST_F(MixedPrecisionOnCuda, TapeTokensThatShareTheNetwork) { expect_agreement(kShape, kLengths, with_tape()); }

TEST_F(MixedPrecisionOnCuda, AChangedWeightIsSeenInTheNextScope) {
  const torch::NoGradGuard no_grad;
  const auto block = block_of(kShape);
  block->to(kGpu);
  const auto layout = std::make_shared<const PackLayout>(kLengths, std::vector<Kind>{}, kGpu);
  const torch::Tensor x = testing::random_tensor({layout->total(), 64}, 3).to(kGpu);
  const auto forward = [&] {
    const MixedPrecision precision(torch::kBFloat16, kGpu);
    return block->forward({x, layout}, {}, 0).values.to(torch::kFloat);
  };
  const torch::Tensor before = forward();
  EXPECT_TRUE(forward().equal(before));
  block->output->weight.mul_(2);
  EXPECT_GT(relative_error(forward(), before), 1e-2);
}

}  // namespace
}  // namespace adatape
