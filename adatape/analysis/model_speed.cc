#include "adatape/analysis/model_speed.h"

#include <ATen/Parallel.h>

#include <chrono>
#include <ctime>

#include "adatape/analysis/cost.h"
#include "adatape/analysis/halting_depths.h"
#include "adatape/core/check.h"
#include "adatape/core/number_text.h"
#include "adatape/models/registry.h"

namespace adatape {
namespace {

InputSpec images_of(int64_t side) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = side;
  spec.classes = 1000;
  return spec;
}

Batch batch_for(const ModelPreset& preset, const EncoderConfig& config, const SpeedOptions& options, const InputSpec& spec) {
  const int64_t patches = (spec.height / config.stem.patch) * (spec.width / config.stem.patch), blocks = deepest(config);
  const HaltingUnit unit = halting_unit(config);
  HaltingSpread spread = published_depth(preset);
  if (options.depth > 0) spread = {options.depth, false};
  std::vector<int64_t> depths;
  if (unit != HaltingUnit::kNone) {
    const int64_t units = unit == HaltingUnit::kToken ? options.batch * patches : options.batch;
    depths = spread.even ? even_depths(units, blocks, 1) : normal_depths(units, blocks, spread.mean * static_cast<double>(blocks), 1, 1);
  }
  return images_halting_at(depths, options.batch, spec, config, 1);
}

// The clock on the wall; with one CPU thread the time of the processor, which other programs on a busy machine do not stretch.
double now_seconds(at::Device device) {
  if (!device.is_cpu() || at::get_num_threads() > 1)
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

// What the recorded pass says about an example.
void add_cost(const ModelOutput& output, int64_t batch, ModelSpeed& speed) {
  CostBreakdown cost;
  cost.add(output, batch);
  speed.flops = cost.flops();
  double all = 0;
  for (const std::vector<int64_t>& tokens : output.block_tokens) {
    double block = 0;
    for (const int64_t count : tokens) block += static_cast<double>(count) / static_cast<double>(batch);
    speed.tokens = std::max(speed.tokens, block);
    all += block;
  }
  for (const TapeReading& reading : output.readings) speed.tape_tokens += reading.lengths.to(at::kDouble).mean().item<double>();
  speed.depth = all;  // becomes a share where the number of blocks is known
}

}  // namespace

HaltingSpread published_depth(const ModelPreset& preset) {
  if (preset.model == "avit") return {preset.name.starts_with("avit_tiny") ? 0.8 / 1.3 : 3.6 / 4.6, false};
  if (preset.model == "uvit" || preset.model == "u2t") return {0.5, true};
  return {};
}

ModelSpeed measure_speed(const ModelPreset& preset, const SpeedOptions& options, const std::function<void(int64_t done)>& pass) {
  const at::NoGradGuard no_grad;
  const InputSpec spec = images_of(options.image_size);
  const std::unique_ptr<ModelConfig> config = preset_config(preset, spec);
  const auto* encoder = dynamic_cast<const EncoderConfig*>(config.get());
  ADATAPE_CHECK(encoder != nullptr, "bench", "expected a model that reads images, got ", preset.name);
  const std::shared_ptr<Model> model = find_model(preset.model).make_model(*config, spec);
  model->initialize(1, 1);
  if (halting_unit(*config) != HaltingUnit::kNone) obey_pixels(*model, *config);
  model->to(options.device);
  if (options.device.is_cpu()) model->pack_for_inference(torch::kFloat);
  const Batch batch = batch_for(preset, *encoder, options, spec).to(options.device);

  ModelSpeed speed;
  speed.model = preset.name;
  speed.family = preset.model;
  speed.size = preset.size;
  speed.width = encoder->width;
  speed.patch = encoder->stem.patch;
  for (const NamedParameter& parameter : model->named_parameters()) speed.parameters += parameter.tensor.numel();
  ForwardOptions recording;
  recording.record = true;
  const ModelOutput recorded = model->forward(batch, recording);
  add_cost(recorded, options.batch, speed);
  const auto blocks = deepest(*config) > 0 ? deepest(*config) : static_cast<int64_t>(recorded.block_tokens.size());
  speed.depth = deepest(*config) > 0 ? speed.depth / (speed.tokens * static_cast<double>(blocks)) : 1;
  if (pass) pass(1);

  std::vector<double> times;
  for (int64_t i = 0; i < options.repeats; ++i) {
    const double start = now_seconds(options.device);
    model->forward(batch, {}).logits.cpu();  // waits for a device
    times.push_back(now_seconds(options.device) - start);
    if (pass) pass(2 + i);
  }
  speed.milliseconds = median_of(times) * 1e3;
  speed.images_per_second = static_cast<double>(options.batch) / median_of(times);
  return speed;
}

}  // namespace adatape
