// What halting saves: a model whose tokens or examples halt at depths spread evenly over its blocks, against the same model on images where
// all run to the end. ratio = time saved / FLOPs saved, both as shares of the full depth: 1 says that what has halted costs nothing.
//   build/release/adatape_benchmarks --benchmark_filter=halting_saved
//
// Depths are set through the models' own means alone: feature 0 of a token is a pixel of its patch, blocks leave it as it is, and the
// halting unit reads it.
#include <algorithm>
#include <cmath>
#include <random>

#include "adatape/core/memory.h"
#include "adatape/models/avit.h"
#include "adatape/models/registry.h"
#include "adatape/models/universal_transformer.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int64_t kBatch = 32, kImage = 224, kPatch = 16, kBlocks = 12;
constexpr int64_t kPatches = (kImage / kPatch) * (kImage / kPatch);

InputSpec image_spec() {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 3;
  spec.height = spec.width = kImage;
  spec.classes = 1000;
  return spec;
}

// Halting probability at every step with which a unit halts at the depth-th: the sums before it stay clear of 1, its own is past it.
double probability_of(int64_t depth) { return depth == 1 ? 0.9999 : 1 / (static_cast<double>(depth) - 0.5); }
double logit(double p) { return std::log(p / (1 - p)); }

// Halting depths of all patches, example by example: each depth as often as the others, dealt at random.
std::vector<int64_t> spread_depths(bool by_token) {
  std::mt19937 random(1);
  std::vector<int64_t> depths;
  std::vector<int64_t> dealt(static_cast<size_t>(by_token ? kPatches : kBatch));
  for (size_t i = 0; i < dealt.size(); ++i) dealt[i] = 1 + static_cast<int64_t>(i) * kBlocks / static_cast<int64_t>(dealt.size());
  for (int64_t b = 0; b < kBatch; ++b) {
    if (by_token || b == 0) std::shuffle(dealt.begin(), dealt.end(), random);
    for (int64_t i = 0; i < kPatches; ++i) depths.push_back(dealt[static_cast<size_t>(by_token ? i : b)]);
  }
  return depths;
}

// Random images whose patches begin with the pixel that says how deep they go.
Batch images_of(const std::vector<int64_t>& depths) {
  Batch batch;
  batch.images = at::rand({kBatch, 3, kImage, kImage}) * 2 - 1;
  batch.examples = at::arange(kBatch, at::kLong);
  std::vector<float> pixels;
  for (const int64_t depth : depths) pixels.push_back(static_cast<float>(logit(probability_of(depth))));
  const int64_t side = kImage / kPatch;
  batch.images.select(1, 0).slice(1, 0, kImage, kPatch).slice(2, 0, kImage, kPatch).copy_(at::tensor(pixels).view({kBatch, side, side}));
  return batch;
}

// Makes feature 0 of a patch's token scale x its first pixel + offset, through all blocks; of class tokens class_value.
void carry_pixel(const Model& model, double scale, double offset, double class_value) {
  const auto ends_with = [](const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
  };
  for (const NamedParameter& parameter : model.named_parameters()) {
    at::Tensor tensor = parameter.tensor;
    if (parameter.name == "stem.patch_weight") {
      tensor[0].zero_();
      tensor[0][0][0][0] = scale;
    } else if (parameter.name == "stem.bias") {
      tensor[0] = offset;
    } else if (parameter.name == "stem.class_token") {
      tensor.view(-1)[0] = class_value;
    } else if (parameter.name == "stem.positions") {
      tensor.select(-1, 0).zero_();
    } else if (ends_with(parameter.name, ".output.weight") || ends_with(parameter.name, ".output.bias") ||
               ends_with(parameter.name, ".contract.weight") || ends_with(parameter.name, ".contract.bias")) {
      tensor[0].zero_();
    }
  }
}

struct Work {
  double flops = 0;
  std::vector<int64_t> block_tokens;
};

Work work_of(Model& model, const Batch& batch) {
  ForwardOptions recording;
  recording.record = true;
  const ModelOutput output = model.forward(batch, recording);
  Work work;
  for (const WorkItem& item : output.work) {
    for (const int64_t rows : item.rows) work.flops += static_cast<double>(rows) * static_cast<double>(item.flops_per_row);
  }
  for (const std::vector<int64_t>& tokens : output.block_tokens) {
    work.block_tokens.push_back(0);
    for (const int64_t count : tokens) work.block_tokens.back() += count;
  }
  return work;
}

struct Case {
  std::string row, model;
  int64_t width, heads;
  bool by_token;
};

std::shared_ptr<Model> model_of(const Case& wanted) {
  const InputSpec spec = image_spec();
  const std::unique_ptr<ModelConfig> config = find_model(wanted.model).make_config();
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
  std::shared_ptr<Model> model = find_model(wanted.model).make_model(*config, spec);
  model->initialize(1, 1);
  if (const auto* avit = dynamic_cast<const AVitConfig*>(config.get())) {
    const auto feature = [&](double x) { return (x + avit->gate_center) / avit->gate_scale; };
    carry_pixel(*model, 1 / avit->gate_scale, feature(0), feature(logit(probability_of(kBlocks))));
  } else {
    carry_pixel(*model, 1, 0, logit(probability_of(kBlocks)));
    for (const NamedParameter& parameter : model->named_parameters()) {
      at::Tensor tensor = parameter.tensor;
      if (parameter.name == "halting.weight") tensor.zero_()[0][0] = 1;
      if (parameter.name == "halting.bias") tensor.zero_();
    }
  }
  return model;
}

void halting_saved(benchmark::State& state, const Case& wanted) {
  keep_freed_memory();  // as the program does
  at::NoGradGuard no_grad;
  at::manual_seed(0);
  const std::shared_ptr<Model> model = model_of(wanted);
  const std::vector<int64_t> depths = spread_depths(wanted.by_token);
  const Batch adaptive = images_of(depths), full = images_of(std::vector<int64_t>(depths.size(), kBlocks));

  // Each block computes the tokens whose depth it does not exceed, and class tokens as their example lasts.
  const Work work = work_of(*model, adaptive), all = work_of(*model, full);
  for (int64_t block = 0; block < kBlocks; ++block) {
    const int64_t patches = std::count_if(depths.begin(), depths.end(), [&](int64_t depth) { return depth > block; });
    const int64_t classes = wanted.by_token ? kBatch : patches / kPatches;
    if (work.block_tokens.at(static_cast<size_t>(block)) != patches + classes ||
        all.block_tokens.at(static_cast<size_t>(block)) != kBatch * (kPatches + 1)) {
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
                        {"halting_saved_uvit_per_token", "uvit", 384, 6, true}};
  for (const Case& wanted : cases) {
    benchmark::RegisterBenchmark(wanted.row.c_str(), [wanted](benchmark::State& state) { halting_saved(state, wanted); })
        ->UseManualTime()
        ->Iterations(3)
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace adatape
