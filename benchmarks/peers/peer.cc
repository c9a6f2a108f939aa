// One model of a published size, waiting to be timed beside other programs: reads `images` [B, 3, 224, 224] from a file, writes its logits,
// says what it is in one line of JSON, then makes as many passes as a line on stdin says and answers with the mean milliseconds of one. The
// device is idle before and after.
//   adatape_peer vit_small_patch16_224 float32 images.safetensors logits.safetensors [timm weights.safetensors] [--device cuda] [--train]
// With --train a pass is a step of training: the loss (labels are read beside the images), gradients and AdamW, at a learning rate of 0, so
// that tapes keep their lengths.
#include <ATen/Parallel.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include <torch/csrc/autograd/profiler_kineto.h>

#include "adatape/analysis/cost.h"
#include "adatape/convert/timm.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/core/memory.h"
#include "adatape/models/presets.h"
#include "adatape/models/registry.h"
#include "adatape/nn/mixed_precision.h"
#include "adatape/ops/packed_linear/packed_linear.h"
#include "adatape/ops/plain_calls.h"
#include "adatape/tasks/classification.h"
#include "adatape/train/gradients.h"
#include "adatape/train/optimizer.h"
#include "benchmarks/answers.h"

namespace adatape {
namespace {

constexpr int64_t kClasses = 1000;

struct Arguments {
  std::string model, images, logits, weights;
  torch::Dtype precision = torch::kFloat;
  torch::Device device = torch::kCPU;
  bool train = false;
  std::string trace;  // where to put a timeline of one pass, for chrome://tracing or Perfetto
};

Arguments arguments_of(const std::vector<std::string>& words) {
  Arguments arguments;
  std::vector<std::string> places;
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--train") {
      arguments.train = true;
    } else if (words[i] == "--trace" && i + 1 < words.size()) {
      arguments.trace = words[++i];
    } else if (words[i] == "--device" && i + 1 < words.size()) {
      arguments.device = parse_device(words[++i]);
    } else {
      places.push_back(words[i]);
    }
  }
  ADATAPE_CHECK((places.size() == 4 || places.size() == 5) && (places[1] == "float32" || places[1] == "bfloat16"), "adatape_peer",
                "expected MODEL float32|bfloat16 IMAGES LOGITS [WEIGHTS] [--device NAME] [--train] [--trace FILE], got ", places.size(),
                " arguments");
  arguments.model = places[0];
  arguments.precision = places[1] == "bfloat16" ? torch::kBFloat16 : torch::kFloat;
  arguments.images = places[2];
  arguments.logits = places[3];
  if (places.size() == 5) arguments.weights = places[4];
  ADATAPE_CHECK(!arguments.device.is_cpu() || arguments.precision == torch::kFloat || (!arguments.train && ops::has_bfloat16_products()),
                "adatape_peer", "bfloat16: expected a device or, without --train, a processor that multiplies it");
  return arguments;
}

// Its batch is made already; it only has a loss.
struct GivenImages : Task {
  InputSpec input_spec() const override { return {}; }
  Batch training_batch(uint64_t, uint64_t, int64_t) const override { return {}; }
  Batch held_out_batch(Split, int64_t, int64_t) const override { return {}; }
  int64_t held_out_size(Split) const override { return 0; }
  int64_t epoch_size() const override { return 0; }
  at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override {
    return classification_loss("adatape_peer", logits, batch.labels, kClasses);
  }
  at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override {
    return classification_correct("adatape_peer", logits, batch.labels, kClasses);
  }
  at::Tensor example_covariate(const Batch& batch) const override { return batch.labels; }
  std::string covariate_name() const override { return "class"; }
  std::vector<std::string> class_names() const override { return {}; }
};

void wait_for(torch::Device device) {
  if (!device.is_cpu()) c10::impl::getDeviceGuardImpl(device.type())->synchronizeDevice(device.index());
}

Batch batch_of(const Arguments& arguments) {
  const NamedTensors given = read_safetensors(arguments.images).tensors;
  Batch batch;
  batch.images = given.at("images").contiguous();
  batch.examples = at::arange(batch.images.size(0), at::kLong);
  if (arguments.train) batch.labels = given.at("labels");
  return batch;
}

std::shared_ptr<Model> model_of(const Arguments& arguments, const Batch& batch) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = batch.images.size(1);
  spec.height = batch.images.size(2);
  spec.width = batch.images.size(3);
  spec.classes = kClasses;
  const ModelPreset& preset = require_preset(arguments.model);
  const std::unique_ptr<ModelConfig> config = preset_config(preset, spec);
  std::shared_ptr<Model> model = find_model(preset.model).make_model(*config, spec);
  const at::NoGradGuard no_grad;
  model->initialize(1, 1);
  if (arguments.weights.empty()) {
    draw_classifier(*model);
  } else {
    const NamedTensors source = read_safetensors(arguments.weights).tensors;
    const NamedTensors ours = to_ours(timm_pieces(source, *model), source, *model);
    for (const NamedParameter& parameter : model->named_parameters()) parameter.tensor.copy_(ours.at(parameter.name));
  }
  return model;
}

// Logits by plain calls in float32 on the CPU, to hold ours to: of all images, or of the first eight where a device makes ours.
at::Tensor plain_logits(Model& model, const Batch& batch, torch::Device device) {
  const at::NoGradGuard no_grad;
  const ops::PlainCalls guard;
  const int64_t images = batch.images.size(0), count = device.is_cpu() ? images : std::min<int64_t>(images, 8);
  Batch first;
  first.images = batch.images.narrow(0, 0, count);
  first.examples = batch.examples.narrow(0, 0, count);
  return model.forward(first, {}).logits;
}

// One pass after two others, as PyTorch's profiler sees it.
void write_trace(const std::string& file, torch::Device device, const std::function<void()>& pass) {
  namespace profiler = torch::autograd::profiler;
  pass();
  pass();
  wait_for(device);
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  const std::set<profiler::ActivityType> activities = {profiler::ActivityType::CPU, profiler::ActivityType::CUDA};
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities);
  pass();
  wait_for(device);
  profiler::disableProfiler()->save(file);
}

// Answers every line, the number of passes, with the milliseconds of one.
void answer_lines(torch::Device device, const std::function<void()>& pass) {
  for (std::string line; std::getline(std::cin, line);) {
    int64_t passes = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), passes);
    ADATAPE_CHECK(error == std::errc{} && end == line.data() + line.size() && passes > 0, "adatape_peer",
                  "expected a line with the number of passes, got \"", line, "\"");
    wait_for(device);
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < passes; ++i) pass();
    wait_for(device);
    const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
    std::cout << taken.count() / static_cast<double>(passes) << std::endl;
  }
}

int run(const Arguments& arguments) {
  keep_freed_memory();  // as the program does
  const Batch given = batch_of(arguments), batch = given.to(arguments.device);
  const std::shared_ptr<Model> model = model_of(arguments, given);
  const at::Tensor plain = plain_logits(*model, given, arguments.device);
  model->to(arguments.device);
  if (!arguments.train && arguments.device.is_cpu()) model->pack_for_inference(arguments.precision);
  const torch::Dtype products = arguments.device.is_cpu() ? torch::kFloat : arguments.precision;  // the CPU's weights are packed in it

  nlohmann::json about = {{"model", arguments.model},
                          {"device", arguments.device.str()},
                          {"kernel", ops::packed_linear_kernel_name(arguments.precision == torch::kBFloat16 ? at::kBFloat16 : at::kFloat)},
                          {"threads", at::get_num_threads()}};
  if (!arguments.device.is_cpu()) about.erase("kernel");
  {
    const at::NoGradGuard no_grad;
    const MixedPrecision guard(products, arguments.device);
    ForwardOptions recording;
    recording.record = true;
    const ModelOutput output = model->forward(batch, recording);
    const at::Tensor logits = output.logits.to(torch::kCPU, torch::kFloat).contiguous();
    write_safetensors(arguments.logits, {{"logits", logits}});
    about["apart_from_plain"] = relative_difference(logits.narrow(0, 0, plain.size(0)), plain);
    double tape = 0;
    for (const TapeReading& reading : output.readings) tape += reading.lengths.to(torch::kDouble).mean().item<double>();
    about["tape_tokens"] = tape;
    CostBreakdown cost;
    cost.add(output, batch.size());
    about["flops"] = cost.flops();  // of an image
  }
  if (!arguments.train) {
    std::cout << about << std::endl;
    const at::NoGradGuard no_grad;
    const MixedPrecision guard(products, arguments.device);
    const auto pass = [&] { model->forward(batch, {}); };
    if (!arguments.trace.empty()) write_trace(arguments.trace, arguments.device, pass);
    answer_lines(arguments.device, pass);
    return 0;
  }

  const GivenImages task;
  AdamW optimizer(*model, {.weight_decay = 0.05});
  ForwardOptions options;
  options.training = true;
  at::Tensor loss, norm;
  const auto step = [&] {
    optimizer.zero_grad();
    BatchGradients result = gradients_of(*model, task, batch, options, 1, /*parts=*/1, products);
    loss = result.losses.back().second;
    optimizer.add_gradients(std::move(result.gradients));
    norm = optimizer.gradient_norm();
    optimizer.step(0, norm);
  };
  step();
  about["loss"] = loss.item<double>();
  about["gradient_norm"] = norm.item<double>();
  std::cout << about << std::endl;
  if (!arguments.trace.empty()) write_trace(arguments.trace, arguments.device, step);
  answer_lines(arguments.device, step);
  return 0;
}

}  // namespace
}  // namespace adatape

int main(int argc, char** argv) {
  try {
    return adatape::run(adatape::arguments_of({argv + 1, argv + argc}));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "adatape_peer: error: %s\n", error.what());
    return 2;
  }
}
