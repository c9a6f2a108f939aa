// A whole training step of the parity models: batch made, forward, backward, AdamW. AdaTape's rival is the same model, with the same
// parameters and optimizer, written with plain ATen calls on padded tensors.
//   build/release/adatape_benchmarks --benchmark_filter=training_step
#include <map>

#include "adatape/core/files.h"
#include "adatape/core/memory.h"
#include "adatape/models/registry.h"
#include "adatape/tasks/task.h"
#include "adatape/train/gradients.h"
#include "adatape/train/optimizer.h"
#include "adatape/train/run_config.h"
#include "benchmarks/ops/plain_tape_read.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

using Parameters = std::map<std::string, at::Tensor>;

// configs/parity/adatape.toml: a class token and what it reads from the sequence, one block, two feed-forward networks. Logits [B, 2].
at::Tensor plain_forward(const Parameters& p, const Batch& batch) {
  constexpr int64_t kWidth = 32, kHeads = 4, kLength = 32, kSteps = 16;
  const int64_t count = batch.size(), length = 1 + kSteps;
  const auto linear = [&](const std::string& name, const at::Tensor& x) {
    return at::linear(x, p.at(name + ".weight"), p.at(name + ".bias"));
  };
  const auto norm = [&](const std::string& name, const at::Tensor& x) {
    return at::layer_norm(x, {kWidth}, p.at(name + ".weight"), p.at(name + ".bias"), 1e-6);
  };
  const at::Tensor query = p.at("stem.class_token").expand({count, kWidth});
  const at::Tensor bank =
      (at::embedding(p.at("bank_input.symbol_weight").t(), batch.symbols) + p.at("bank_input.bias")).view({count, kLength, kWidth});
  const ops::Answer read = ops::read_plainly(query, bank, p.at("reader_0.norm.weight"), p.at("reader_0.norm.bias"),
                                             {count, kLength, kWidth, kWidth / 16, kSteps, 2, 8.0});
  const at::Tensor tape = linear("reader_0.mlp.contract", at::glu(linear("reader_0.mlp.expand", read.tokens), -1));
  const at::Tensor x = at::cat({query.unsqueeze(1), tape}, 1);
  const at::Tensor mask = (at::arange(length) <= read.lengths.unsqueeze(1)).view({count, 1, 1, length});
  const at::Tensor qkv = linear("block_0.qkv", norm("block_0.attention_norm", x)).view({count, length, 3, kHeads, -1});
  const at::Tensor attended = at::scaled_dot_product_attention(qkv.select(2, 0).transpose(1, 2), qkv.select(2, 1).transpose(1, 2),
                                                               qkv.select(2, 2).transpose(1, 2), mask)
                                  .transpose(1, 2)
                                  .reshape({count, length, kWidth});
  const at::Tensor middle = x + linear("block_0.output", attended), normed = norm("block_0.feed_forward_norm", middle);
  const at::Tensor input =
      linear("block_0.feed_forward.contract", at::gelu(linear("block_0.feed_forward.expand", normed.narrow(1, 0, 1)), "tanh"));
  const at::Tensor tapes =
      linear("block_0.tape_feed_forward.contract", at::glu(linear("block_0.tape_feed_forward.expand", normed.narrow(1, 1, kSteps)), -1));
  const at::Tensor out = middle + at::cat({input, tapes}, 1);
  return linear("head.classifier", norm("head.norm", out.select(1, 0)));
}

void training_step(benchmark::State& state, const std::string& config_file, bool with_rival) {
  keep_freed_memory();  // as the program does; rivals have it too
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
    optimizer.zero_grad();
    optimizer.add_gradients(
        gradients_of(*model, *task, batch, options, 1, parallel_parts(config.training, *model, batch.size(), at::kCPU)).gradients);
    optimizer.step(1e-3, optimizer.gradient_norm());
  };
  std::vector<Rival> rivals;
  const std::shared_ptr<Model> other = find_model(config.model->name).make_model(*config.model, task->input_spec());
  other->initialize(1, 1);
  Parameters parameters;
  for (const NamedParameter& parameter : other->named_parameters()) parameters[parameter.name] = parameter.tensor;
  AdamW other_optimizer(*other, {.clip_norm = 1.0});
  if (with_rival) {
    one_step();  // the classifier starts at zero, so answers are compared after a step
    const auto rival_step = [&] {
      const Batch batch = task->training_batch(1, ++step, config.training.batch_size);
      other_optimizer.zero_grad();
      task->example_loss(plain_forward(parameters, batch), batch).mean().backward();
      other_optimizer.step(1e-3, other_optimizer.gradient_norm());
    };
    step = 0;
    rival_step();
    at::NoGradGuard no_grad;
    const Batch batch = task->training_batch(1, 7, config.training.batch_size);
    const at::Tensor expected = plain_forward(parameters, batch), got = model->forward(batch, {}).logits;
    if (!((got - expected).abs().max().item<double>() <= 1e-4) || got.abs().max().item<double>() == 0) {
      state.SkipWithError("the answers differ");
      return;
    }
    rivals.push_back({"plain", rival_step, "parity_training_step", 5});
  }
  at::AutoGradMode training(true);
  time_side_by_side(state, one_step, rivals);
  state.counters["examples_per_second"] = static_cast<double>(config.training.batch_size) * 1e3 / state.counters["median_ms"];
}

const bool kRegistered = [] {
  for (const std::string name : {"adatape", "adatape_paper", "transformer", "universal_transformer"}) {
    benchmark::RegisterBenchmark(("training_step/parity/" + name).c_str(),
                                 [name](benchmark::State& state) {
                                   training_step(state, ADATAPE_SOURCE_DIR "/configs/parity/" + name + ".toml", name == "adatape");
                                 })
        ->UseManualTime()
        ->Iterations(20)
        ->Unit(benchmark::kMillisecond);
  }
  return true;
}();

}  // namespace
}  // namespace adatape
