// What halting saves: a model whose tokens or examples halt at depths spread evenly over its blocks, against the same model on images where
// all run to the end. ratio = time saved / FLOPs saved, both as shares of the full depth: 1 says that what has halted costs nothing.
//   build/release/adatape_benchmarks --benchmark_filter=halting_saved
#include <algorithm>

#include "adatape/analysis/cost.h"
#include "adatape/analysis/halting_depths.h"
#include "adatape/core/memory.h"
#include "adatape/models/registry.h"
#include "adatape/models/universal_transformer.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int64_t kPatch = 16, kBlocks = 12;

struct Case {
  std::string row, model;
  int64_t width, heads;
  bool by_token;
  int64_t batch = 32, image = 224;
};

InputSpec image_spec(int64_t side) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = side;
  spec.classes = 1000;
  return spec;
}

struct Work {
  double flops = 0;
  std::vector<int64_t> block_tokens;
};

Work work_of(Model& model, const Batch& batch) {
  ForwardOptions recording;
  recording.record = true;
  const ModelOutput output = model.forward(batch, recording);
  CostBreakdown cost;
  cost.add(output, batch.size());
  Work work{cost.flops(), {}};
  for (const std::vector<int64_t>& tokens : output.block_tokens) {
    work.block_tokens.push_back(0);
    for (const int64_t count : tokens) work.block_tokens.back() += count;
  }
  return work;
}

std::unique_ptr<ModelConfig> config_of(const Case& wanted, const InputSpec& spec) {
  std::unique_ptr<ModelConfig> config = find_model(wanted.model).make_config();
  auto& encoder = dynamic_cast<EncoderConfig&>(*config);
  encoder.width = wanted.width;
  encoder.heads = wanted.heads;
  encoder.ffn_width = 4 * wanted.width;
  encoder.stem.patch = kPatch;
  encoder.stem.class_token = true;
  encoder.head.pooling = "token";
  if (auto* universal = dynamic_cast<UniversalTransformerConfig*>(config.get())) {
    universal->max_steps = kBlocks;
    universal->halting = wanted.by_token ? "per_token" : "per_example";
    universal->output = wanted.by_token ? "accumulated" : "basic";
  }
  config->resolve(spec);
  config->validate(spec);
  return config;
}

void halting_saved(benchmark::State& state, const Case& wanted) {
  keep_freed_memory();  // as the program does
  at::NoGradGuard no_grad;
  at::manual_seed(0);
  const InputSpec spec = image_spec(wanted.image);
  const std::unique_ptr<ModelConfig> config = config_of(wanted, spec);
  const auto& encoder = dynamic_cast<const EncoderConfig&>(*config);
  const std::shared_ptr<Model> model = find_model(wanted.model).make_model(*config, spec);
  model->initialize(1, 1);
  draw_classifier(*model);
  obey_pixels(*model, *config);
  const int64_t batch = wanted.batch, patches = (wanted.image / kPatch) * (wanted.image / kPatch);
  const std::vector<int64_t> depths = even_depths(wanted.by_token ? batch * patches : batch, kBlocks, 0);
  const Batch adaptive = images_halting_at(depths, batch, spec, encoder, 0);
  const Batch full = images_halting_at(std::vector<int64_t>(depths.size(), kBlocks), batch, spec, encoder, 0);
  const auto logits = [&] { return at::cat({model->forward(adaptive, {}).logits, model->forward(full, {}).logits}); };
  if (!packs(*model, logits)) {
    state.SkipWithError("the logits on packed weights differ");
    return;
  }

  // Each block computes the tokens whose depth it does not exceed, and class tokens as their example lasts.
  const Work work = work_of(*model, adaptive), all = work_of(*model, full);
  for (int64_t block = 0; block < kBlocks; ++block) {
    const int64_t running = std::count_if(depths.begin(), depths.end(), [&](int64_t depth) { return depth > block; });
    if (work.block_tokens.at(static_cast<size_t>(block)) != (wanted.by_token ? running + batch : running * (patches + 1)) ||
        all.block_tokens.at(static_cast<size_t>(block)) != batch * (patches + 1)) {
      state.SkipWithError("tokens did not halt where they should");
      return;
    }
  }
  const double saved = 1 - work.flops / all.flops;
  time_side_by_side(
      state, [&] { model->forward(adaptive, {}); },
      {{.name = "full_depth", .call = [&] { model->forward(full, {}); }, .row = wanted.row, .goal = 0.9, .flops_saved = saved}});
  state.counters["flops_saved"] = saved;
}

const bool kRegistered = [] {
  const Case cases[] = {{"halting_saved_avit", "avit", 384, 6, true},
                        {"halting_saved_avit_ti16", "avit", 192, 3, true},
                        {"halting_saved_uvit", "uvit", 384, 6, false},
                        {"halting_saved_uvit_ti16", "uvit", 192, 3, false},
                        {"halting_saved_uvit_per_token", "uvit", 384, 6, true},
                        {"halting_saved_uvit_per_token_ti16", "uvit", 192, 3, true},
                        {"halting_saved_u2t", "u2t", 384, 6, true},
                        {"halting_saved_u2t_ti16", "u2t", 192, 3, true},
                        // Many small images.
                        {"halting_saved_avit_ti16_batch256", "avit", 192, 3, true, 256, 96},
                        {"halting_saved_uvit_ti16_batch256", "uvit", 192, 3, false, 256, 96},
                        {"halting_saved_uvit_per_token_ti16_batch256", "uvit", 192, 3, true, 256, 96},
                        {"halting_saved_u2t_ti16_batch256", "u2t", 192, 3, true, 256, 96}};
  for (const Case& wanted : cases) {
    benchmark::RegisterBenchmark(wanted.row.c_str(), [wanted](benchmark::State& state) { halting_saved(state, wanted); })
        ->UseManualTime()
        ->Iterations(5)
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace adatape
