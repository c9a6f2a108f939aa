// The kernels of tape_read against the golden case, finite differences and each other; those of the GPU where one answers.
#include <ATen/Parallel.h>

#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "adatape/core/safetensors.h"
#include "tests/ops/tape_read_cases.h"

namespace adatape::ops {
namespace {

class TapeReadKernel : public testing::TestWithParam<Kernel> {
  void SetUp() override {
    if (GetParam().name == std::string("cuda")) need_cuda_kernels();
  }
};
class TapeReadDoubleKernel : public testing::TestWithParam<Kernel> {};
class TapeReadCuda : public testing::Test {
  void SetUp() override { need_cuda_kernels(); }
};

INSTANTIATE_TEST_SUITE_P(All, TapeReadKernel, testing::Values(kReference, kCpu, kCuda), kernel_of);
INSTANTIATE_TEST_SUITE_P(All, TapeReadDoubleKernel, testing::Values(kReference, kCpu), kernel_of);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// tests/golden/tape_reader: forward values and the gradients of sum(tokens * cotangent) + lambda * mean(ponder).
TEST_P(TapeReadKernel, GivesTheGoldenAnswers) {
  const std::string folder = std::string(ADATAPE_SOURCE_DIR) + "/tests/golden/tape_reader/";
  const nlohmann::json description = nlohmann::json::parse(std::ifstream(folder + "case.json"));
  const NamedTensors given = read_safetensors(folder + "inputs.safetensors").tensors;
  const NamedTensors parameters = read_safetensors(folder + "weights.safetensors").tensors;
  const NamedTensors expected = read_safetensors(folder + "expected.safetensors").tensors;
  const double for_gradients = description["tolerance"]["grad"], for_tokens = description["tolerance"]["tape_tokens"];
  const double for_weights = description["tolerance"]["tape_weights"], otherwise = 1e-5;
  int entries = 0;
  for (const auto& [name, config] : description["config"].items()) {
    SCOPED_TRACE(name);
    const bool shared = config.contains("bank");
    Reading reading{name, {}, {}};
    reading.inputs.query = given.at(name + "/query");
    reading.inputs.bank = shared ? parameters.at(name + "/bank") : given.at(name + "/bank");
    if (!shared) reading.inputs.bank_offsets = given.at(name + "/bank_offsets").to(at::kLong);
    reading.inputs.norm_weight = parameters.at(name + "/bank_norm/scale");
    reading.inputs.norm_bias = parameters.at(name + "/bank_norm/bias");
    reading.options = {config["key_width"], config["T"], config["K"], config["tau"], config["query_update"], config["ponder"], 1e-6};

    const TapeReadResult result = GetParam().forward(reading.inputs, reading.options);
    const auto& [tokens, weights, indices, lengths, ponder, halting] = result;
    expect_close(indices, expected.at(name + "/tape_indices"), 0, "indices");
    expect_close(lengths, expected.at(name + "/tape_length"), 0, "lengths");
    expect_close(tokens, expected.at(name + "/tape_tokens"), for_tokens, "tokens");
    expect_close(weights, expected.at(name + "/tape_weights"), for_weights, "weights");
    expect_close(ponder, expected.at(name + "/ponder_loss"), otherwise, "ponder");
    expect_close(halting.gather(1, (lengths - 1).unsqueeze(1)).squeeze(1), expected.at(name + "/halting_sum"), otherwise, "halting");

    const double lambda = config["lambda"];
    const auto [grad_query, grad_bank, grad_scale, grad_bias] = run_backward(GetParam(), reading, result, given.at(name + "/cotangent"),
                                                                             std::nullopt, at::full_like(ponder, lambda / ponder.numel()));
    expect_close(grad_query, expected.at("grad/" + name + "/query"), for_gradients, "gradient of query");
    expect_close(grad_bank, expected.at("grad/" + name + "/bank"), for_gradients, "gradient of bank");
    expect_close(grad_scale, expected.at("grad/" + name + "/bank_norm/scale"), for_gradients, "gradient of norm_weight");
    expect_close(grad_bias, expected.at("grad/" + name + "/bank_norm/bias"), for_gradients, "gradient of norm_bias");
    ++entries;
  }
  EXPECT_EQ(entries, 10);
}

// Central differences of a random linear function of tokens, weights and ponder, in float64, for every element of every input.
void expect_finite_differences(const Kernel& kernel, Reading reading) {
  SCOPED_TRACE(reading.name);
  const TapeReadResult result = kernel.forward(reading.inputs, reading.options);
  const at::Tensor for_tokens = at::randn_like(std::get<0>(result)), for_weights = at::randn_like(std::get<1>(result));
  const at::Tensor for_ponder = at::randn_like(std::get<4>(result));
  auto loss = [&] {
    const TapeReadResult moved = kernel.forward(reading.inputs, reading.options);
    EXPECT_TRUE(at::equal(std::get<2>(moved), std::get<2>(result))) << "the selection moved: choose another seed";
    return ((std::get<0>(moved) * for_tokens).sum() + (std::get<1>(moved) * for_weights).sum() + (std::get<4>(moved) * for_ponder).sum())
        .item<double>();
  };
  const auto [grad_query, grad_bank, grad_weight, grad_bias] = run_backward(kernel, reading, result, for_tokens, for_weights, for_ponder);
  constexpr double kStep = 1e-6;
  const std::vector<std::tuple<const char*, at::Tensor, at::Tensor>> inputs{{"query", reading.inputs.query, grad_query},
                                                                            {"bank", reading.inputs.bank, grad_bank},
                                                                            {"norm_weight", reading.inputs.norm_weight, grad_weight},
                                                                            {"norm_bias", reading.inputs.norm_bias, grad_bias}};
  for (const auto& [name, input, gradient] : inputs) {
    at::Tensor estimate = at::zeros_like(input);
    double* const values = input.data_ptr<double>();
    for (int64_t i = 0; i < input.numel(); ++i) {
      const double value = values[i];
      values[i] = value + kStep;
      const double above = loss();
      values[i] = value - kStep;
      estimate.data_ptr<double>()[i] = (above - loss()) / (2 * kStep);
      values[i] = value;
    }
    expect_close(gradient, estimate, 1e-7, name);
  }
}

TEST_P(TapeReadDoubleKernel, HasTheGradientOfFiniteDifferences) {
  const int threads = at::get_num_threads();
  at::set_num_threads(1);  // thousands of tiny calls: waking threads would be most of their time
  at::manual_seed(1);
  for (const std::string query_update : {"average", "replace"}) {
    for (const std::string ponder : {"entropy", "max"}) {
      const TapeReadOptions options{3, 3, 2, 1.6, query_update, ponder, 1e-6};
      expect_finite_differences(GetParam(), make_reading("packed " + query_update + " " + ponder, {7, 3, 0, 8}, 6, options, at::kDouble));
      expect_finite_differences(GetParam(),
                                make_reading("shared " + query_update + " " + ponder, {9, 9, 9}, 6, options, at::kDouble, true));
    }
  }
  Reading moved = make_reading("query offset", {7, 5}, 6, {3, 3, 2, 1.6, "average", "entropy", 1e-6}, at::kDouble);
  moved.inputs.query_offset = at::randn({2, 3}, at::kDouble);
  expect_finite_differences(GetParam(), moved);
  Reading ordered = make_reading("order", {4, 5}, 6, {2, 3, 2, 1.6, "average", "entropy", 1e-6}, at::kDouble);
  ordered.inputs.order = torch::tensor({3, 1, 0, 2, 4, 0, 1, 2, 3}, at::kLong);
  expect_finite_differences(GetParam(), ordered);
  at::set_num_threads(threads);
}

// Forms of input on which kernels could differ.
std::vector<Reading> readings(at::ScalarType type) {
  at::manual_seed(7);
  const TapeReadOptions usual{5, 6, 3, 2.0, "average", "entropy", 1e-6};
  std::vector<Reading> all;
  all.push_back(make_reading("empty batch", {}, 12, usual, type));
  all.push_back(make_reading("empty banks", {0, 0}, 12, usual, type));
  all.push_back(make_reading("single row", {1}, 12, usual, type));
  all.push_back(make_reading("ragged", {40, 0, 3, 150, 1, 17}, 12, usual, type));
  all.push_back(make_reading("wide", {90, 70}, 200, {64, 10, 5, 2.0, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("enough for several threads", {300, 500, 10, 200}, 130, {64, 10, 5, 2.0, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("shared by threads", std::vector<int64_t>(9, 700), 130, {64, 10, 5, 2.0, "average", "max", 1e-6}, type, true));
  all.push_back(make_reading("few rows", {100}, 33, {33, 4, 7, 2.5, "replace", "max", 1e-5}, type));
  all.push_back(make_reading("shared", {70, 70, 70}, 12, usual, type, true));
  all.push_back(make_reading("empty shared", {0, 0}, 12, usual, type, true));
  all.push_back(make_reading("no steps", {4, 5}, 12, {5, 0, 3, 2.0, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("more a step than rows", {4, 5}, 12, {5, 2, 9, 2.0, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("no threshold", {20, 9}, 12, {5, 4, 3, kInfinity, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("one feature", {20, 9}, 1, {1, 4, 3, 2.0, "average", "entropy", 1e-6}, type));

  Reading strided = make_reading("non-contiguous", {20, 9}, 12, usual, type);
  strided.inputs.bank = at::randn({12, 29}).to(type).t();
  strided.inputs.query = at::randn({2, 24}).to(type).slice(1, 0, 24, 2);
  strided.inputs.norm_weight = at::randn({24}).to(type).slice(0, 0, 24, 2);
  all.push_back(strided);
  Reading slice = make_reading("slice of a wider bank", {20, 9}, 12, usual, type);
  slice.inputs.bank = at::randn({29, 20}).to(type).narrow(1, 3, 12);
  all.push_back(slice);
  Reading tied = make_reading("tied", {140, 9}, 12, usual, type);
  tied.inputs.bank = tied.inputs.bank.narrow(0, 0, 3).repeat({50, 1}).narrow(0, 0, 149).contiguous();
  all.push_back(tied);
  Reading with_nan = make_reading("NaN rows", {8, 30}, 12, usual, type);
  with_nan.inputs.bank.index_put_({torch::tensor({0, 2, 3, 5, 6, 20, 21})}, at::scalar_tensor(NAN, type));
  all.push_back(with_nan);
  Reading nan_query = make_reading("NaN query", {8, 30}, 12, usual, type);
  nan_query.inputs.query[1].fill_(NAN);
  all.push_back(nan_query);
  Reading masked = make_reading("masked", {40, 6, 80}, 12, usual, type);
  masked.inputs.bank_mask = at::rand({126}) < 0.5;
  masked.inputs.bank_mask->narrow(0, 40, 6).fill_(false);
  all.push_back(masked);
  Reading shared_masked = make_reading("shared masked", {40, 40}, 12, usual, type, true);
  shared_masked.inputs.bank_mask = at::rand({2, 40}) < 0.2;
  all.push_back(shared_masked);
  Reading limited = make_reading("thresholds and limits", {40, 40, 40, 40}, 12, usual, type);
  limited.inputs.thresholds = torch::tensor({0.3, kInfinity, 1.0, 5.0}, at::kFloat);
  limited.inputs.step_limits = torch::tensor({6, 5, 0, 1}, at::kLong);
  all.push_back(limited);
  Reading moved = make_reading("query offset", {14, 0, 5}, 12, usual, type);
  moved.inputs.query_offset = at::randn({3, 5}).to(type);
  all.push_back(moved);
  Reading ordered = make_reading("order", {14, 0, 5}, 12, usual, type);
  ordered.inputs.order = at::cat({at::randperm(14), at::randperm(5)});
  ordered.inputs.bank_mask = at::rand({19}) < 0.7;
  all.push_back(ordered);
  Reading shared_ordered = make_reading("shared order", {14, 14}, 12, {5, 6, 3, kInfinity, "replace", "max", 1e-6}, type, true);
  shared_ordered.inputs.order = at::stack({at::randperm(14), at::randperm(14)});
  all.push_back(shared_ordered);
  return all;
}

void expect_agreement(const Kernel& kernel, const Kernel& oracle, const Reading& reading, double tolerance) {
  SCOPED_TRACE(reading.name);
  const TapeReadResult expected = oracle.forward(reading.inputs, reading.options);
  expect_close(kernel.forward(reading.inputs, reading.options), expected, tolerance, "forward");
  const auto& [tokens, weights, indices, lengths, ponder, halting] = expected;
  const at::Tensor grad_tokens = at::randn_like(tokens), grad_weights = at::randn_like(weights), grad_ponder = at::randn_like(ponder);
  expect_close(run_backward(kernel, reading, expected, grad_tokens, grad_weights, grad_ponder),
               run_backward(oracle, reading, expected, grad_tokens, grad_weights, grad_ponder), 10 * tolerance, "backward");
  expect_close(run_backward(kernel, reading, expected, {}, {}, grad_ponder), run_backward(oracle, reading, expected, {}, {}, grad_ponder),
               10 * tolerance, "backward of ponder alone");
}

TEST(TapeReadKernels, Agree) {
  for (at::ScalarType type : {at::kDouble, at::kFloat}) {
    for (const Reading& reading : readings(type)) expect_agreement(kCpu, kReference, reading, type == at::kDouble ? 1e-12 : 2e-5);
  }
}

// Forms of input on which the GPU's kernels have paths of their own: rows spread over the CTAs of a cluster, rows that shared memory does
// not hold, rows that are not made of 16-byte loads.
std::vector<Reading> readings_of_cuda(at::ScalarType type) {
  at::manual_seed(11);
  const TapeReadOptions usual{64, 10, 5, 2.0, "average", "entropy", 1e-6}, small{16, 6, 4, kInfinity, "replace", "max", 1e-6};
  std::vector<Reading> all;
  all.push_back(make_reading("ragged over CTAs", {784, 0, 1, 33, 64, 65, 500, 2}, 768, usual, type));
  all.push_back(make_reading("more examples than CTAs at once", std::vector<int64_t>(150, 7), 64, small, type));
  all.push_back(make_reading("an example beyond shared memory", {9000, 1, 1, 40, 1, 1, 1, 1}, 64, usual, type));
  all.push_back(make_reading("shared beyond shared memory", {9000, 9000, 9000}, 64, usual, type, true));
  all.push_back(make_reading("shared with rows of its own for each thread", {3000, 3000}, 192, usual, type, true));
  all.push_back(make_reading("several rows a thread", {2500, 1400}, 40, small, type));
  for (int64_t width : {8, 65, 100, 192, 384, 512, 1024, 1500, 2056, 3001})
    all.push_back(make_reading("width " + std::to_string(width), {150, 37}, width, {5, 6, 4, 2.5, "average", "max", 1e-6}, type));
  all.push_back(make_reading("keys are whole rows", {150, 90}, 128, {128, 6, 3, 3.0, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("keys of odd width", {150, 90}, 64, {31, 6, 3, 3.0, "replace", "entropy", 1e-6}, type));
  all.push_back(
      make_reading("as many a step as a warp has lanes", {300, 20, 9}, 64, {16, 3, 32, kInfinity, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("one row a step", {300, 20, 9}, 64, {16, 12, 1, kInfinity, "average", "entropy", 1e-6}, type));
  all.push_back(make_reading("more a step than the kernel serves", {60, 20}, 64, {16, 2, 40, kInfinity, "average", "max", 1e-6}, type));

  Reading same = make_reading("every row alike", {600, 9}, 64, small, type);
  same.inputs.bank = same.inputs.bank.narrow(0, 0, 1).repeat({609, 1}).contiguous();
  all.push_back(same);
  Reading tied = make_reading("ties far apart", {1200}, 64, small, type);
  tied.inputs.bank = tied.inputs.bank.narrow(0, 0, 400).repeat({3, 1}).contiguous();
  all.push_back(tied);
  Reading with_nan = make_reading("NaN rows", {500, 30}, 64, small, type);
  with_nan.inputs.bank.index_put_({torch::tensor({0, 1, 130, 400, 499, 501})}, at::scalar_tensor(NAN, type));
  all.push_back(with_nan);
  Reading mostly_nan = make_reading("hardly any row but NaN", {300}, 64, small, type);
  mostly_nan.inputs.bank.narrow(0, 0, 295).fill_(NAN);
  all.push_back(mostly_nan);
  Reading masked = make_reading("masked", {700, 6, 300, 40}, 64, small, type);
  masked.inputs.bank_mask = at::rand({1046}) < 0.1;
  masked.inputs.bank_mask->narrow(0, 706, 300).fill_(false);
  all.push_back(masked);
  Reading shared_masked = make_reading("shared masked", {700, 700, 700}, 64, small, type, true);
  shared_masked.inputs.bank_mask = at::rand({3, 700}) < 0.05;
  shared_masked.inputs.bank_mask->select(0, 1).fill_(false);
  all.push_back(shared_masked);
  Reading far_masked = make_reading("shared masked beyond shared memory", {9000, 9000}, 64, usual, type, true);
  far_masked.inputs.bank_mask = at::rand({2, 9000}) < 0.5;
  all.push_back(far_masked);
  Reading offset = make_reading("query offset, thresholds and limits", {500, 40, 0, 300}, 96, small, type);
  offset.inputs.query_offset = at::randn({4, 16});
  offset.inputs.thresholds = torch::tensor({0.3, kInfinity, 1.0, 5.0}, at::kFloat);
  offset.inputs.step_limits = torch::tensor({6, 5, 3, 1}, at::kLong);
  all.push_back(offset);
  return all;
}

TEST_F(TapeReadCuda, AgreesWithTheReference) {
  for (const Reading& reading : readings(at::kFloat)) expect_agreement(kCuda, kReference, reading, 2e-5);
  for (const Reading& reading : readings_of_cuda(at::kFloat)) expect_agreement(kCuda, kReference, reading, 2e-5);
}

// Both compute in float, so they differ by the rounding of their answers. Norm parameters may be float beside them.
TEST_F(TapeReadCuda, AgreesWithTheReferenceInHalfPrecision) {
  for (at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const double tolerance = type == at::kHalf ? 1e-3 : 8e-3;
    for (Reading reading : readings_of_cuda(type)) {
      expect_agreement(kCuda, kCudaReference, reading, tolerance);
      reading.name += ", float norm";
      reading.inputs.norm_weight = reading.inputs.norm_weight.to(at::kFloat),
      reading.inputs.norm_bias = reading.inputs.norm_bias.to(at::kFloat);
      if (reading.inputs.bank.size(0) < 2000) expect_agreement(kCuda, kCudaReference, reading, tolerance);
    }
  }
}

// Slices made on the GPU, whose strides a copy would not keep: unaligned rows, aligned rows of a wider bank, strided norm parameters.
TEST_F(TapeReadCuda, ReadsSlices) {
  at::manual_seed(12);
  for (int64_t first : {0, 3, 4}) {
    Reading reading = make_reading("slice from " + std::to_string(first), {200, 37}, 64, {16, 6, 4, 2.5, "average", "entropy", 1e-6});
    reading.inputs = moved(reading.inputs, at::kCUDA);
    reading.inputs.bank = at::randn({237, 80}, reading.inputs.bank.options()).narrow(1, first, 64);
    reading.inputs.query = at::randn({2, 80}, reading.inputs.bank.options()).narrow(1, first, 64);
    reading.inputs.norm_weight = at::randn({128}, reading.inputs.bank.options()).slice(0, 0, 128, 2);
    expect_agreement(kCuda, kCudaReference, reading, 2e-5);
  }
}

// Nothing is added in an order that changes from run to run.
TEST_F(TapeReadCuda, RepeatsItsBits) {
  for (const Reading& reading : readings_of_cuda(at::kFloat)) {
    SCOPED_TRACE(reading.name);
    const TapeReadResult result = kCuda.forward(reading.inputs, reading.options);
    const at::Tensor grad_tokens = at::randn_like(std::get<0>(result)), grad_ponder = at::randn_like(std::get<4>(result));
    const TapeReadGradients gradients = run_backward(kCuda, reading, result, grad_tokens, {}, grad_ponder);
    expect_close(kCuda.forward(reading.inputs, reading.options), result, 0, "forward");
    expect_close(run_backward(kCuda, reading, result, grad_tokens, {}, grad_ponder), gradients, 0, "backward");
  }
}

// Offsets and limits that no host checks: wrong answers are allowed, accesses out of bounds are not (the device would report them).
TEST_F(TapeReadCuda, SurvivesOffsetsThatLie) {
  Reading reading = make_reading("lying offsets", {30, 30, 30}, 64, {16, 6, 4, 2.5, "average", "entropy", 1e-6});
  reading.inputs.bank_offsets = torch::tensor({-5, 1000, 20, 91}, at::kLong);
  reading.inputs.step_limits = torch::tensor({100, -3, 6}, at::kLong);
  const TapeReadResult result = kCuda.forward(reading.inputs, reading.options);
  EXPECT_TRUE(at::equal(std::get<3>(result).clamp(0, 6), std::get<3>(result)));
  run_backward(kCuda, reading, result, at::ones_like(std::get<0>(result)), {}, {});
}

TEST_F(TapeReadCuda, IsWhatTheDispatcherRuns) {
  EXPECT_EQ(tape_read_kernel_name(at::kCUDA, at::kFloat), "cuda");
  EXPECT_EQ(tape_read_kernel_name(at::kCUDA, at::kBFloat16), "cuda");
  EXPECT_EQ(tape_read_kernel_name(at::kCUDA, at::kHalf), "cuda");
  EXPECT_EQ(tape_read_kernel_name(at::kCUDA, at::kDouble), "reference");
  at::manual_seed(13);
  const Reading reading = make_reading("dispatched", {900, 600}, 64, {16, 6, 4, 2.5, "average", "entropy", 1e-6});
  const Reading short_one = make_reading("a short example", {1300, 300}, 64, reading.options);
  for (const auto& [of, kernel] : {std::pair<const Reading&, const Kernel&>{reading, kCuda}, {short_one, kCudaReference}}) {
    const TapeReadInputs in = moved(of.inputs, at::kCUDA);
    expect_close(on_cpu(tape_read(in.query, in.bank, in.bank_offsets, in.norm_weight, in.norm_bias, of.options)),
                 kernel.forward(of.inputs, of.options), 0, of.name);
  }
  const TapeReadInputs exact = moved(make_reading("double", {20, 7}, 64, reading.options, at::kDouble).inputs, at::kCUDA);
  expect_close(on_cpu(tape_read(exact.query, exact.bank, exact.bank_offsets, exact.norm_weight, exact.norm_bias, reading.options)),
               kReference.forward(moved(exact, at::kCPU), reading.options), 1e-12, "in double");
}

// The bits of an example's answer and gradient do not depend on its batch mates, nor on the number of threads.
TEST(TapeReadCpu, AnExampleAloneGivesTheSameBits) {
  const int threads = at::get_num_threads();
  for (const Reading& reading : readings(at::kFloat)) {
    SCOPED_TRACE(reading.name);
    const int64_t batch = reading.inputs.query.size(0);
    at::set_num_threads(1);
    const TapeReadResult together = kCpu.forward(reading.inputs, reading.options);
    const at::Tensor grad_tokens = at::randn_like(std::get<0>(together)), grad_ponder = at::randn_like(std::get<4>(together));
    const TapeReadGradients gradients = run_backward(kCpu, reading, together, grad_tokens, {}, grad_ponder);
    at::set_num_threads(std::max(threads, 2));
    expect_close(kCpu.forward(reading.inputs, reading.options), together, 0, "two threads");
    expect_close(run_backward(kCpu, reading, together, grad_tokens, {}, grad_ponder), gradients, 0, "two threads");
    for (int64_t b = 0; b < batch; ++b) {
      Reading one = reading;
      const bool packed = reading.inputs.bank_offsets.has_value();
      const int64_t first = packed ? (*reading.inputs.bank_offsets)[b].item<int64_t>() : 0;
      const int64_t count = packed ? (*reading.inputs.bank_offsets)[b + 1].item<int64_t>() - first : reading.inputs.bank.size(0);
      one.inputs.query = reading.inputs.query.narrow(0, b, 1);
      one.inputs.bank = reading.inputs.bank.narrow(0, first, count);
      if (packed) one.inputs.bank_offsets = torch::tensor({int64_t{0}, count}, at::kLong);
      for (auto member : {&TapeReadInputs::bank_mask, &TapeReadInputs::order}) {
        if (one.inputs.*member)
          *(one.inputs.*member) = packed ? (one.inputs.*member)->narrow(0, first, count) : (one.inputs.*member)->narrow(0, b, 1);
      }
      for (auto member : {&TapeReadInputs::thresholds, &TapeReadInputs::step_limits, &TapeReadInputs::query_offset}) {
        if (one.inputs.*member) *(one.inputs.*member) = (one.inputs.*member)->narrow(0, b, 1);
      }
      const TapeReadResult alone = kCpu.forward(one.inputs, one.options);
      const auto& [tokens, weights, indices, lengths, ponder, halting] = together;
      expect_close(alone,
                   {tokens.narrow(0, b, 1), weights.narrow(0, b, 1), indices.narrow(0, b, 1), lengths.narrow(0, b, 1),
                    ponder.narrow(0, b, 1), halting.narrow(0, b, 1)},
                   0, "alone");
      const TapeReadGradients own = run_backward(kCpu, one, alone, grad_tokens.narrow(0, b, 1), {}, grad_ponder.narrow(0, b, 1));
      expect_close(std::get<0>(own), std::get<0>(gradients).narrow(0, b, 1), 0, "gradient of query");
      if (packed) expect_close(std::get<1>(own), std::get<1>(gradients).narrow(0, first, count), 0, "gradient of bank");
    }
  }
  at::set_num_threads(threads);
}

// Half precision is computed in float: at most twice the error of the plain formula in that dtype, both against float64.
TEST(TapeReadReference, HalfPrecisionErrsNoMoreThanThePlainFormula) {
  at::manual_seed(3);
  for (at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    Reading exact = make_reading("exact", {6}, 64, {16, 1, 6, 2.0, "average", "entropy", 1e-6}, type);  // one step reads every row
    const TapeReadInputs low = exact.inputs;
    for (auto member : {&TapeReadInputs::query, &TapeReadInputs::bank, &TapeReadInputs::norm_weight, &TapeReadInputs::norm_bias}) {
      exact.inputs.*member = (exact.inputs.*member).to(at::kDouble);
    }
    const at::Tensor expected = std::get<0>(kReference.forward(exact.inputs, exact.options)).view({64});
    const at::Tensor rows = at::layer_norm(low.bank, {64}, low.norm_weight, low.norm_bias, 1e-6);
    const at::Tensor query = at::layer_norm(low.query, {64}, low.norm_weight, low.norm_bias, 1e-6).narrow(1, 0, 16);
    const at::Tensor weights = ((rows.narrow(1, 0, 16) * query).sum(1) / 4).softmax(0);
    const double plain = ((weights.unsqueeze(1) * rows).sum(0).to(at::kDouble) - expected).abs().max().item<double>();
    const double ours =
        (std::get<0>(kReference.forward(low, exact.options)).view({64}).to(at::kDouble) - expected).abs().max().item<double>();
    EXPECT_LE(ours, 2 * plain) << type;
    EXPECT_GT(plain, 0) << type;
  }
}

}  // namespace
}  // namespace adatape::ops
