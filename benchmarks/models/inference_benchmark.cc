// Inference of ViT-S/16 and AdaTape-S/16 at 224 pixels on packed weights, float32 and bfloat16 factors, against the same model in plain
// ATen calls (float32): what prepared weights and fused passes buy.
//   build/release/adatape_benchmarks --benchmark_filter=inference
#include "adatape/core/memory.h"
#include "adatape/models/presets.h"
#include "adatape/models/registry.h"
#include "adatape/ops/plain_calls.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

std::shared_ptr<Model> small_model(const std::string& name, const InputSpec& spec) {
  const ModelPreset& preset = require_preset(name + "_small_patch16_224");
  const std::unique_ptr<ModelConfig> config = preset_config(preset, spec);
  std::shared_ptr<Model> model = find_model(preset.model).make_model(*config, spec);
  model->initialize(1, 1);
  draw_classifier(*model);
  return model;
}

void inference(benchmark::State& state, const std::string& name) {
  keep_freed_memory();
  at::NoGradGuard no_grad;
  const bool half = state.range(1) == 16;
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = 224;
  spec.classes = 1000;
  const std::shared_ptr<Model> plain = small_model(name, spec), packed = small_model(name, spec);
  packed->pack_for_inference(half ? torch::kBFloat16 : torch::kFloat);
  at::manual_seed(0);
  Batch batch;
  batch.images = at::rand({state.range(0), 3, 224, 224}) * 2 - 1;
  batch.examples = at::arange(state.range(0), at::kLong);
  const auto plain_logits = [&] {
    const ops::PlainCalls guard;
    return plain->forward(batch, {}).logits;
  };
  const at::Tensor expected = plain_logits();
  if (!(relative_difference(packed->forward(batch, {}).logits, expected) <= (half ? 3e-2 : 1e-5))) {
    state.SkipWithError("the logits differ");
    return;
  }
  const std::string row = "inference_" + name + "_s16_b" + std::to_string(state.range(0)) + (half ? "_bf16" : "_fp32");
  time_side_by_side(state, [&] { packed->forward(batch, {}); }, {{"plain", [&] { plain_logits(); }, row, 1}});
  state.counters["images_per_second"] = 1e3 * static_cast<double>(state.range(0)) / state.counters["median_ms"].value;
}

const bool kRegistered = [] {
  std::vector<int64_t> bits{32};
  if (ops::has_bfloat16_products()) bits.push_back(16);
  for (const char* name : {"vit", "adatape"}) {
    benchmark::RegisterBenchmark((std::string("inference/") + name).c_str(), [name](benchmark::State& state) { inference(state, name); })
        ->ArgsProduct({{1, 8, 32}, bits})
        ->UseManualTime()
        ->Iterations(7)
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace adatape
