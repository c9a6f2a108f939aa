// A whole training step of the parity models: batch made, forward, backward, AdamW.
//   build/release/adatape_benchmarks --benchmark_filter=training_step
#include "adatape/core/files.h"
#include "adatape/models/registry.h"
#include "adatape/tasks/task.h"
#include "adatape/train/optimizer.h"
#include "adatape/train/run_config.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

void training_step(benchmark::State& state, const std::string& config_file) {
  RunConfig config = RunConfig::from_document(ConfigDocument::from_file(config_file));
  const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
  const std::shared_ptr<Model> model = find_model(config.model->name).make_model(*config.model, task->input_spec());
  model->initialize(1, 1);
  AdamW optimizer(*model, {.clip_norm = 1.0});
  uint64_t step = 0;
  const auto one_step = [&] {
    const Batch batch = task->training_batch(1, ++step, config.training.batch_size);
    ForwardOptions options;
    options.training = true;
    options.step = step;
    const ModelOutput output = model->forward(batch, options);
    optimizer.zero_grad();
    model->combine(output, [&](const at::Tensor& logits) { return task->example_loss(logits, batch); }).mean().backward();
    optimizer.step(1e-3, optimizer.gradient_norm());
  };
  time_side_by_side(state, one_step, {});
  state.counters["examples_per_second"] = static_cast<double>(config.training.batch_size) * 1e3 / state.counters["median_ms"];
}

const bool kRegistered = [] {
  for (const std::string name : {"adatape", "adatape_paper", "transformer", "universal_transformer"}) {
    benchmark::RegisterBenchmark(("training_step/parity/" + name).c_str(), [name](benchmark::State& state) {
      training_step(state, ADATAPE_SOURCE_DIR "/configs/parity/" + name + ".toml");
    })->UseManualTime()->Iterations(20)->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace adatape
