// What halting saves a recurrent network: examples that halt after 1 to 20 steps, evenly spread, against the same model on examples that
// all take 20. ratio = time saved / FLOPs saved, both as shares of the whole: 1 says that what has halted costs nothing.
//   build/release/adatape_benchmarks --benchmark_filter=recurrent_halting
//
// Steps are set through the models' own means alone: feature 0 of the state repeats number 0 of the input, and the halting unit reads it.
#include <cmath>

#include "adatape/core/memory.h"
#include "adatape/models/act_rnn.h"
#include "adatape/models/pondernet.h"
#include "adatape/models/registry.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

constexpr int64_t kBatch = 256, kInput = 64, kWidth = 512, kSteps = 20;
constexpr double kThreshold = 0.95, kScale = 12;  // of PonderNet's halting; of the halting unit, so that tanh can carry its logits

// Halting probability at every step with which a unit halts at this one: sums stay clear of the threshold.
double probability_of(int64_t step, bool ponder) {
  if (ponder) return 1 - std::pow(1 - kThreshold, 1 / (static_cast<double>(step) - 0.5));
  return step == 1 ? 0.9999 : 1 / (static_cast<double>(step) - 0.5);
}

// An input vector an example, of random numbers but for the first.
Batch batch_of(const std::vector<int64_t>& steps, bool ponder) {
  Batch batch;
  batch.vectors = at::randn({kBatch, kInput});
  batch.examples = at::arange(kBatch, at::kLong);
  for (int64_t b = 0; b <= kBatch; ++b) batch.offsets.push_back(b);
  for (int64_t b = 0; b < kBatch; ++b) {
    const double p = probability_of(steps[static_cast<size_t>(b)], ponder);
    batch.vectors[b][0] = std::atanh(std::log(p / (1 - p)) / kScale);
  }
  return batch;
}

// A GRU whose feature 0 is tanh(number 0) after every step: its update gate is shut there, and nothing else is read.
void carry_number(const Model& model) {
  for (const NamedParameter& parameter : model.named_parameters()) {
    at::Tensor tensor = parameter.tensor;
    if (parameter.name == "halting.weight") {
      tensor.zero_()[0][0] = kScale;
    } else if (parameter.name == "halting.bias") {
      tensor.zero_();
    } else if (parameter.name.rfind("cell.", 0) == 0) {
      for (const int64_t gate : {0, 1, 2}) tensor[gate * kWidth].zero_();
      if (parameter.name == "cell.bias_ih") tensor[kWidth] = -100;
      if (parameter.name == "cell.weight_ih") tensor[2 * kWidth][0] = 1;
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

void recurrent_halting(benchmark::State& state, const std::string& name) {
  keep_freed_memory();  // as the program does
  at::NoGradGuard no_grad;
  at::manual_seed(0);
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = kInput;
  spec.length = 1;
  spec.classes = 2;
  const bool ponder = name == "pondernet";
  const std::unique_ptr<ModelConfig> config = find_model(name).make_config();
  if (auto* act = dynamic_cast<ActRnnConfig*>(config.get())) {
    act->cell = "gru";
    act->width = kWidth;
    act->max_steps = kSteps;
  } else {
    auto& pondernet = dynamic_cast<PonderNetConfig&>(*config);
    pondernet.step = "gru";
    pondernet.width = kWidth;
    pondernet.max_steps = kSteps;
    pondernet.halting_threshold = kThreshold;
  }
  config->resolve(spec);
  config->validate(spec);
  const std::shared_ptr<Model> model = find_model(name).make_model(*config, spec);
  model->initialize(1, 1);
  carry_number(*model);
  model->pack_for_inference(torch::kFloat);

  std::vector<int64_t> spread;
  for (int64_t b = 0; b < kBatch; ++b) spread.push_back(1 + (b * 37) % kBatch * kSteps / kBatch);
  const std::vector<int64_t> all(static_cast<size_t>(kBatch), kSteps);
  const Batch adaptive = batch_of(spread, ponder), full = batch_of(all, ponder);
  const double adaptive_flops = flops_of(*model, adaptive, spread), full_flops = flops_of(*model, full, all);
  if (adaptive_flops == 0 || full_flops == 0) {
    state.SkipWithError("examples do not halt where they should");
    return;
  }
  const double saved = 1 - adaptive_flops / full_flops;
  time_side_by_side(state, [&] { model->forward(adaptive, {}); },
                    {{.name = "all_steps",
                      .call = [&] { model->forward(full, {}); },
                      .row = ponder ? "halting_saved_pondernet" : "halting_saved_act",
                      .goal = 0.9,
                      .flops_saved = saved}});
  state.counters["flops_saved"] = saved;
}

BENCHMARK_CAPTURE(recurrent_halting, act, "act_rnn")->UseManualTime()->Iterations(21)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(recurrent_halting, pondernet, "pondernet")->UseManualTime()->Iterations(21)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
