// What adaptive tape reading costs at batch 1, where nothing hides its latency: AdaTape-S/16 at 224 pixels against a ViT-S/16 of as many
// tokens, both of this library. The ViT's time is scaled by the ratio of their FLOPs, so that the bank, the reading and the tape's networks
// are allowed their work at the ViT's own rate: a ratio of 0.95 says that AdaTape takes 5 % longer than its FLOPs explain.
//   build/release/adatape_benchmarks --benchmark_filter=atr_overhead
// And the same at batch 8 with tapes of 2, 8 and 32 tokens for all: does time follow the budget as FLOPs do?
//   build/release/adatape_benchmarks --benchmark_filter=tape_budget
#include <numeric>

#include "adatape/core/memory.h"
#include "adatape/models/adatape.h"
#include "adatape/models/registry.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int64_t kWidth = 384, kHeads = 6, kFfnWidth = 1536, kBlocks = 12, kClasses = 1000;

// tape: the length of all tapes; 0: what the reader decides.
std::unique_ptr<ModelConfig> small_config(const InputSpec& spec, int64_t tape) {
  std::unique_ptr<ModelConfig> config = find_model("adatape").make_config();
  auto& adatape = dynamic_cast<AdaTapeConfig&>(*config);
  adatape.width = kWidth;
  adatape.heads = kHeads;
  adatape.ffn_width = kFfnWidth;
  adatape.blocks = kBlocks;
  if (tape > 0) {
    adatape.readers.at(0).max_tape_tokens = tape;
    adatape.readers.at(0).halting = "none";
    adatape.readers.at(0).rows_per_step = 5;
  }
  config->resolve(spec);
  config->validate(spec);
  return config;
}

void tape_overhead(benchmark::State& state, const std::string& row, int64_t batch_size, int64_t budget) {
  keep_freed_memory();  // as the program does; rivals have it too
  at::NoGradGuard no_grad;
  at::manual_seed(0);
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = 224;
  spec.classes = kClasses;
  const std::unique_ptr<ModelConfig> config = small_config(spec, budget);
  const std::shared_ptr<Model> model = find_model("adatape").make_model(*config, spec);
  model->initialize(1, 1);
  draw_classifier(*model);
  Batch batch;
  batch.images = at::rand({batch_size, 3, 224, 224}) * 2 - 1;
  batch.examples = at::arange(batch_size, at::kLong);
  const at::Tensor expected = in_plain_calls([&] { return model->forward(batch, {}).logits; });
  model->pack_for_inference(torch::kFloat);

  ForwardOptions recording;
  recording.record = true;
  const ModelOutput recorded = model->forward(batch, recording);
  if (!(relative_difference(recorded.logits, expected) <= 1e-4)) {
    state.SkipWithError("AdaTape's logits on packed weights differ");
    return;
  }
  double flops = 0;
  for (const WorkItem& item : recorded.work) {
    for (const int64_t rows : item.rows) flops += static_cast<double>(rows) * static_cast<double>(item.flops_per_row);
  }
  std::vector<int64_t> tapes;
  for (int64_t b = 0; b < batch_size; ++b) tapes.push_back(recorded.readings.at(0).lengths[b].item<int64_t>());
  const int64_t tape = std::accumulate(tapes.begin(), tapes.end(), int64_t{0});
  if (budget > 0 && tape != budget * batch_size) {
    state.SkipWithError("tapes are not as long as they should");
    return;
  }

  // The ViT gets as many registers as AdaTape read tape tokens, from its first block on.
  const auto& shared = dynamic_cast<const AdaTapeConfig&>(*config);
  at::Generator generator = parameter_generator(1, 1);
  Stem stem(shared.stem, spec, kWidth);
  Head head(shared.head, kWidth, kClasses);
  stem.initialize(generator);
  head.initialize(generator);
  draw_classifier(head);
  std::vector<std::shared_ptr<EncoderBlock>> blocks;
  for (int64_t i = 0; i < kBlocks; ++i) {
    blocks.push_back(std::make_shared<EncoderBlock>(EncoderBlockShape{.width = kWidth, .heads = kHeads, .ffn_width = kFfnWidth}));
    blocks.back()->initialize(generator);
  }
  const at::Tensor registers = at::randn({tape, kWidth});
  const auto vit = [&] {
    PackedTokens tokens = append_tokens(stem.forward(batch, {}), registers, tapes, TokenKind::kInput);
    for (int64_t i = 0; i < kBlocks; ++i) tokens = blocks[i]->forward(tokens, {}, i);
    return head.forward(tokens, {});
  };
  const at::Tensor expected_of_vit = in_plain_calls(vit);
  stem.pack_for_inference(torch::kFloat);
  head.pack_for_inference(torch::kFloat);
  for (const std::shared_ptr<EncoderBlock>& block : blocks) block->pack_for_inference(torch::kFloat);
  const int64_t before = matrix_product_flops();
  if (!(relative_difference(vit(), expected_of_vit) <= 1e-4)) {
    state.SkipWithError("the ViT's logits on packed weights differ");
    return;
  }
  const double factor = flops / static_cast<double>(matrix_product_flops() - before);
  time_side_by_side(state, [&] { model->forward(batch, {}); }, {{"vit", vit, row, 0.95, factor}});
  state.counters["tape_tokens"] = static_cast<double>(tape) / static_cast<double>(batch_size);
  state.counters["flops_ratio"] = factor;
}

BENCHMARK_CAPTURE(tape_overhead, atr_overhead_batch_1, "atr_overhead_batch_1", 1, 0)
    ->UseManualTime()
    ->Iterations(21)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(tape_overhead, tape_budget_2, "tape_budget_2", 8, 2)->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(tape_overhead, tape_budget_8, "tape_budget_8", 8, 8)->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(tape_overhead, tape_budget_32, "tape_budget_32", 8, 32)->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
