// What the tests of training share: a temporary folder, a tiny model and a configuration.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/rng.h"
#include "adatape/models/model.h"
#include "adatape/train/run_config.h"
#include "tests/temporary_folder.h"

namespace adatape::testing {

// A classifier of the mean symbol embedding, with noise keyed as dropout is, an auxiliary loss and a loss that can be made to blow up.
class TinyModel : public Model {
 public:
  explicit TinyModel(int64_t width = 4) {
    embedding = register_parameter("embedding", torch::zeros({3, width}));
    weight = register_parameter("weight", torch::zeros({2, width}));
    bias = register_parameter("bias", torch::zeros({2}));
  }
  void initialize(uint64_t seed, uint64_t draw) override {
    const torch::NoGradGuard no_grad;
    uint64_t index = 0;
    for (auto& [name, parameter] : named_parameters()) {
      const torch::Tensor one = torch::zeros({1}, torch::kLong);
      parameter.copy_(counter_normal(seed, draw, site(Site::kParameters, static_cast<uint32_t>(index++)), one, parameter.numel())
                          .view(parameter.sizes()));
    }
    if (useless_draws > static_cast<int64_t>(draw)) bias[0] = 1e4;  // says class 0 whatever it learns
    ++initialized;
  }
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override {
    if (on_forward) on_forward(options);
    std::vector<torch::Tensor> means;
    for (size_t b = 0; b + 1 < batch.offsets.size(); ++b) {
      means.push_back(embedding.index_select(0, batch.symbols.slice(0, batch.offsets[b], batch.offsets[b + 1])).mean(0));
    }
    torch::Tensor mean = torch::stack(means);
    if (options.training) {
      mean = mean + noise * counter_normal(options.seed, options.step, site(Site::kDropout), batch.examples, mean.size(1));
      forward_sizes.push_back(batch.size());
      if (static_cast<int64_t>(options.step) == blows_up_at) mean = mean / 0.0;
    }
    ModelOutput output;
    output.logits = torch::linear(mean, weight, bias);
    output.auxiliary_losses.push_back({"size", mean.square().sum(1), 0.01});
    if (options.record) {
      std::vector<int64_t> lengths;
      for (size_t b = 0; b + 1 < batch.offsets.size(); ++b) lengths.push_back(batch.offsets[b + 1] - batch.offsets[b]);
      output.block_tokens = {lengths, std::vector<int64_t>(lengths.size(), 1)};
      output.work = {{"mean", lengths, 4, {}, 0}, {"head", std::vector<int64_t>(lengths.size(), 1), 16, {}, 0}};
    }
    return output;
  }

  torch::Tensor embedding, weight, bias;
  double noise = 0.1;
  int64_t blows_up_at = -1;   // global step
  int64_t useless_draws = 0;  // draws that begin (and stay) at chance
  int64_t initialized = 0;
  std::function<void(const ForwardOptions&)> on_forward;
  std::vector<int64_t> forward_sizes;
};

// A run on one-symbol sequences, which the tiny model learns at once; more lines come behind.
inline RunConfig tiny_config(const std::vector<std::string>& assignments = {}) {
  ConfigDocument document = ConfigDocument::from_text(R"(
[task]
name = "parity"
length = 1
[model]
name = "transformer"
[training]
steps = 30
batch_size = 12
learning_rate = 0.05
warmup_steps = 2
evaluate_every = 8
validation_examples = 50
checkpoint_every = 10
[evaluation]
test_examples = 60
batch_size = 40
)");
  for (const std::string& assignment : assignments) document.set(assignment);
  return RunConfig::from_document(document);
}

// The lines of a JSON Lines file.
inline std::vector<nlohmann::json> lines_of(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::istringstream stream(read_file(path));
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

// The lines without times.
inline std::vector<nlohmann::json> timeless_metrics(const std::string& output) {
  std::vector<nlohmann::json> lines = lines_of(output + "/metrics.jsonl");
  for (nlohmann::json& line : lines) {
    line.erase("training_seconds");
    line.erase("waited_for_data_seconds");
  }
  return lines;
}

// The same metrics, results and bits in every file of weights.
inline void expect_same_run(const std::string& one, const std::string& two, const std::string& last_checkpoint) {
  EXPECT_EQ(timeless_metrics(one), timeless_metrics(two));
  for (const std::string& file : {std::string("/model.safetensors"), last_checkpoint + "/model.safetensors",
                                  last_checkpoint + "/best.safetensors", last_checkpoint + "/optimizer.safetensors"}) {
    EXPECT_EQ(read_file(one + file), read_file(two + file)) << file;
  }
  nlohmann::json first = nlohmann::json::parse(read_file(one + "/result.json")),
                 second = nlohmann::json::parse(read_file(two + "/result.json"));
  for (const char* key : {"accuracy", "loss", "validation_accuracy", "steps", "draws", "best_step"})
    EXPECT_EQ(first[key], second[key]) << key;
}

}  // namespace adatape::testing
