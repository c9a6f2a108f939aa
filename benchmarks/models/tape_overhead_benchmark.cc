// What adaptive tape reading costs at batch 1, where nothing hides its latency: AdaTape-S/16 at 224 pixels against a ViT-S/16 of as many
// tokens, both of this library. The ViT's time is scaled by the ratio of their FLOPs, so that the bank, the reading and the tape's networks
// are allowed their work at the ViT's own rate: a ratio of 0.95 says that AdaTape takes 5 % longer than its FLOPs explain.
//   build/release/adatape_benchmarks --benchmark_filter=atr_overhead
#include "adatape/core/memory.h"
#include "adatape/models/adatape.h"
#include "adatape/models/registry.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int64_t kWidth = 384, kHeads = 6, kFfnWidth = 1536, kBlocks = 12, kClasses = 1000;

std::unique_ptr<ModelConfig> small_config(const InputSpec& spec) {
  std::unique_ptr<ModelConfig> config = find_model("adatape").make_config();
  auto& adatape = dynamic_cast<AdaTapeConfig&>(*config);
  adatape.width = kWidth;
  adatape.heads = kHeads;
  adatape.ffn_width = kFfnWidth;
  adatape.blocks = kBlocks;
  config->resolve(spec);
  config->validate(spec);
  return config;
}

void atr_overhead(benchmark::State& state) {
  keep_freed_memory();  // as the program does; rivals have it too
  at::NoGradGuard no_grad;
  at::manual_seed(0);
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = 224;
  spec.classes = kClasses;
  const std::unique_ptr<ModelConfig> config = small_config(spec);
  const std::shared_ptr<Model> model = find_model("adatape").make_model(*config, spec);
  model->initialize(1, 1);
  model->pack_for_inference(torch::kFloat);
  Batch batch;
  batch.images = at::rand({1, 3, 224, 224}) * 2 - 1;
  batch.examples = at::zeros({1}, at::kLong);

  ForwardOptions recording;
  recording.record = true;
  const ModelOutput recorded = model->forward(batch, recording);
  double flops = 0;
  for (const WorkItem& item : recorded.work) flops += static_cast<double>(item.rows[0]) * static_cast<double>(item.flops_per_row);
  const int64_t tape = recorded.readings.at(0).lengths[0].item<int64_t>();

  // The ViT gets as many registers as AdaTape read tape tokens, from its first block on.
  const auto& shared = dynamic_cast<const AdaTapeConfig&>(*config);
  at::Generator generator = parameter_generator(1, 1);
  Stem stem(shared.stem, spec, kWidth);
  Head head(shared.head, kWidth, kClasses);
  stem.initialize(generator);
  head.initialize(generator);
  std::vector<std::shared_ptr<EncoderBlock>> blocks;
  for (int64_t i = 0; i < kBlocks; ++i) {
    blocks.push_back(std::make_shared<EncoderBlock>(EncoderBlockShape{.width = kWidth, .heads = kHeads, .ffn_width = kFfnWidth}));
    blocks.back()->initialize(generator);
    blocks.back()->pack_for_inference(torch::kFloat);
  }
  const at::Tensor registers = at::randn({tape, kWidth});
  const auto vit = [&] {
    PackedTokens tokens = append_tokens(stem.forward(batch, {}), registers, {tape}, TokenKind::kInput);
    for (int64_t i = 0; i < kBlocks; ++i) tokens = blocks[i]->forward(tokens, {}, i);
    return head.forward(tokens, {});
  };
  const int64_t before = matrix_product_flops();
  if (!vit().isfinite().all().item<bool>() || !recorded.logits.isfinite().all().item<bool>()) {
    state.SkipWithError("the logits are not finite");
    return;
  }
  const double allowed = flops / static_cast<double>(matrix_product_flops() - before);
  time_side_by_side(state, [&] { model->forward(batch, {}); }, {{"vit", vit, "atr_overhead_batch_1", 0.95, allowed}});
  state.counters["tape_tokens"] = static_cast<double>(tape);
  state.counters["flops_ratio"] = allowed;
}

BENCHMARK(atr_overhead)->UseManualTime()->Iterations(21)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
