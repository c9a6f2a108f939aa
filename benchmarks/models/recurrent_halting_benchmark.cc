// What halting saves where one step is repeated: units that halt after 1 to N steps, evenly spread, against the same model on units that
// all take N. ratio = time saved / FLOPs saved, both as shares of the whole: 1 says that what has halted costs nothing. Units are examples,
// or for a recurrent network on sequences their elements.
//   build/release/adatape_benchmarks --benchmark_filter=recurrent_halting
//
// Steps are set through the models' own means alone: feature 0 of the state repeats number 0 of the input, and the halting unit reads it.
#include <cmath>

#include "adatape/analysis/halting_depths.h"
#include "adatape/core/memory.h"
#include "adatape/models/act_rnn.h"
#include "adatape/models/pondernet.h"
#include "adatape/models/registry.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int64_t kBatch = 256, kInput = 64;
constexpr double kThreshold = 0.95, kScale = 12;  // of PonderNet's halting; of the halting unit, so that tanh can carry its logits

struct Case {
  std::string row, model, step;  // step: a recurrent cell, or transformer
  int64_t width, steps, length;
  bool ponder() const { return model == "pondernet"; }
  bool transformer() const { return step == "transformer"; }
  int64_t units() const { return transformer() ? kBatch : kBatch * length; }
};

// Halting probability at every step with which a unit halts at this one: sums stay clear of the threshold.
double probability_of(int64_t step, bool ponder) {
  if (ponder) return 1 - std::pow(1 - kThreshold, 1 / (static_cast<double>(step) - 0.5));
  return step == 1 ? 0.9999 : 1 / (static_cast<double>(step) - 0.5);
}

// Sequences of vectors of random numbers but for the first, which says when the vector's unit halts.
Batch batch_of(const std::vector<int64_t>& steps, const Case& wanted) {
  Batch batch;
  batch.examples = at::arange(kBatch, at::kLong);
  for (int64_t b = 0; b <= kBatch; ++b) batch.offsets.push_back(b * wanted.length);
  std::vector<float> numbers;
  for (int64_t i = 0; i < kBatch * wanted.length; ++i) {
    const double p = probability_of(steps[static_cast<size_t>(wanted.transformer() ? i / wanted.length : i)], wanted.ponder());
    const double number = std::log(p / (1 - p)) / kScale;
    numbers.push_back(static_cast<float>(wanted.transformer() ? number : std::atanh(number)));
  }
  batch.vectors = at::randn({kBatch * wanted.length, kInput});
  batch.vectors.select(1, 0).copy_(at::tensor(numbers));
  return batch;
}

// A GRU whose feature 0 is tanh(number 0) after every step: its update gate is shut there, and nothing else is read. A block whose
// residuals have nothing for feature 0, which is number 0.
void carry_number(const Model& model, int64_t width) {
  for (const NamedParameter& parameter : model.named_parameters()) {
    at::Tensor tensor = parameter.tensor;
    const std::string& name = parameter.name;
    if (name == "halting.weight") {
      tensor.zero_()[0][0] = kScale;
    } else if (name == "halting.bias") {
      tensor.zero_();
    } else if (name.starts_with("cell.")) {
      for (const int64_t gate : {0, 1, 2}) tensor[gate * width].zero_();
      if (name == "cell.bias_ih") tensor[width] = -100;
      if (name == "cell.weight_ih") tensor[2 * width][0] = 1;
    } else if (name == "stem.vector_weight") {
      tensor[0].zero_()[0] = 1;
    } else if (name == "stem.positions") {
      tensor.select(1, 0).zero_();
    } else if (name == "stem.bias" || name.ends_with(".output.weight") || name.ends_with(".output.bias") ||
               name.ends_with(".contract.weight") || name.ends_with(".contract.bias")) {
      tensor[0].zero_();
    }
  }
}

double flops_of(Model& model, const Batch& batch, const std::vector<int64_t>& expected_steps) {
  ForwardOptions recording;
  recording.record = true;
  const ModelOutput output = model.forward(batch, recording);
  const at::Tensor steps = output.intermediates.at("steps").view(-1).to(at::kLong);
  if (!steps.equal(at::tensor(expected_steps, at::kLong))) return 0;
  double flops = 0;
  for (const WorkItem& item : output.work) {
    for (const int64_t rows : item.rows) flops += static_cast<double>(rows) * static_cast<double>(item.flops_per_row);
  }
  return flops;
}

std::unique_ptr<ModelConfig> config_of(const Case& wanted, const InputSpec& spec) {
  std::unique_ptr<ModelConfig> config = find_model(wanted.model).make_config();
  if (auto* act = dynamic_cast<ActRnnConfig*>(config.get())) {
    act->cell = wanted.step;
    act->width = wanted.width;
    act->max_steps = wanted.steps;
  } else {
    auto& pondernet = dynamic_cast<PonderNetConfig&>(*config);
    pondernet.step = wanted.step;
    pondernet.width = wanted.width;
    pondernet.heads = wanted.width / 64;
    pondernet.ffn_width = 4 * wanted.width;
    pondernet.max_steps = wanted.steps;
    pondernet.halting_threshold = kThreshold;
  }
  config->resolve(spec);
  config->validate(spec);
  return config;
}

void recurrent_halting(benchmark::State& state, const Case& wanted) {
  keep_freed_memory();  // as the program does
  at::NoGradGuard no_grad;
  at::manual_seed(0);
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = kInput;
  spec.length = wanted.length;
  spec.classes = 2;
  const std::unique_ptr<ModelConfig> config = config_of(wanted, spec);
  const std::shared_ptr<Model> model = find_model(wanted.model).make_model(*config, spec);
  model->initialize(1, 1);
  draw_classifier(*model);
  carry_number(*model, wanted.width);

  const std::vector<int64_t> spread = even_depths(wanted.units(), wanted.steps, 0), all(spread.size(), wanted.steps);
  const Batch adaptive = batch_of(spread, wanted), full = batch_of(all, wanted);
  const auto logits = [&] { return at::cat({model->forward(adaptive, {}).logits, model->forward(full, {}).logits}); };
  if (!packs(*model, logits)) {
    state.SkipWithError("the logits on packed weights differ");
    return;
  }
  const double adaptive_flops = flops_of(*model, adaptive, spread), full_flops = flops_of(*model, full, all);
  if (adaptive_flops == 0 || full_flops == 0) {
    state.SkipWithError("units do not halt where they should");
    return;
  }
  const double saved = 1 - adaptive_flops / full_flops;
  time_side_by_side(
      state, [&] { model->forward(adaptive, {}); },
      {{.name = "all_steps", .call = [&] { model->forward(full, {}); }, .row = wanted.row, .goal = 0.9, .flops_saved = saved}});
  state.counters["flops_saved"] = saved;
}

const bool kRegistered = [] {
  const auto add = [](const char* name, int64_t times, const Case& wanted) {
    benchmark::RegisterBenchmark((std::string("recurrent_halting/") + name).c_str(),
                                 [wanted](benchmark::State& state) { recurrent_halting(state, wanted); })
        ->UseManualTime()
        ->Iterations(times)
        ->Unit(benchmark::kMillisecond);
  };
  add("act", 21, {"halting_saved_act", "act_rnn", "gru", 512, 20, 1});
  add("pondernet", 21, {"halting_saved_pondernet", "pondernet", "gru", 512, 20, 1});
  add("act_sequence", 5, {"halting_saved_act_sequence", "act_rnn", "gru", 512, 20, 8});
  add("pondernet_transformer", 3, {"halting_saved_pondernet_transformer", "pondernet", "transformer", 192, 12, 36});
  return true;
}();

}  // namespace
}  // namespace adatape
