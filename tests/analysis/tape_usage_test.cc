#include "adatape/analysis/tape_usage.h"

#include <cmath>
#include <numeric>
#include <set>

#include "adatape/train/evaluate.h"
#include "adatape/train/run_folder.h"
#include "test_runs.h"

namespace adatape {
namespace {

using testing::small_adatape;
using testing::tiny_config;
using testing::train_run;

TEST(TapeUsage, AgreesWithTheEvaluation) {
  const TemporaryFolder folder;
  const LoadedRun run = load_run(train_run(folder / "run", small_adatape()), {}, at::kCPU);
  const TapeUsage usage = measure_tape_usage(run, at::kCPU, 120, 3);
  const EvaluationResult expected = evaluate(*run.model, *run.task, Split::kTest, 120, 50, at::kCPU, /*quick=*/false);
  ASSERT_TRUE(usage.has_readers);
  ASSERT_EQ(usage.lengths.size(), 120u);
  EXPECT_NEAR(std::accumulate(usage.lengths.begin(), usage.lengths.end(), 0.0) / 120, expected.tape_length_mean, 1e-9);
  double flops = 0;
  for (const PartCost& part : usage.cost) flops += part.flops;
  EXPECT_NEAR(flops, expected.flops, 1e-6 * expected.flops);
  EXPECT_EQ(usage.cost.back().part, "head / classifier");

  const Batch batch = run.task->held_out_batch(Split::kTest, 0, 120);
  const at::Tensor ones = run.task->example_covariate(batch);
  for (int64_t b = 0; b < 120; ++b) EXPECT_EQ(usage.covariates[b], ones[b].item<double>());
}

// A transformer of one block by hand: sequences of 8 symbols, width 16, feed-forward network 24, no class token.
TEST(TapeUsage, BytesAreWhatComesInAndGoesOutAndWeightsOnceAPass) {
  const TemporaryFolder folder;
  RunConfig config =
      tiny_config({"task.length=8", "task.nonzero_minimum=1", "task.nonzero_maximum=8", "model.name=transformer", "model.blocks=1",
                   "model.width=16", "model.heads=2", "model.ffn_width=24", "model.input=tokens", "model.pooling=gap", "training.steps=1"});
  const LoadedRun run = load_run(train_run(folder / "run", std::move(config)), {}, at::kCPU);
  std::map<std::string, PartCost> parts;
  for (const PartCost& part : measure_tape_usage(run, at::kCPU, 20, 0).cost) parts[part.part] = part;
  const PartCost& projections = parts.at("block 0 / attention projections");
  EXPECT_DOUBLE_EQ(projections.bytes, 4.0 * 8 * ((16 + 48) + (16 + 16)));
  EXPECT_DOUBLE_EQ(projections.weight_bytes, 4.0 * (16 * 48 + 48 + 16 * 16 + 16));
  EXPECT_DOUBLE_EQ(projections.flops, 2.0 * 8 * (16 * 48 + 16 * 16));
  const PartCost& attention = parts.at("block 0 / attention");
  EXPECT_DOUBLE_EQ(attention.bytes, 4.0 * 8 * 4 * 16);  // q, k, v in, one out
  EXPECT_DOUBLE_EQ(attention.weight_bytes, 0);
  EXPECT_DOUBLE_EQ(attention.flops, 4.0 * 8 * 8 * 16);
  const PartCost& network = parts.at("block 0 / feed-forward");
  EXPECT_DOUBLE_EQ(network.weight_bytes, 4.0 * (2 * 16 * 24 + 24 + 16));
  const Table table = cost_table({projections, attention});
  EXPECT_EQ(table.rows.back().front(), "all");
  EXPECT_EQ(table.rows.back()[2], "100.00 %");
}

TEST(TapeUsage, ShowsEveryStepOfAReading) {
  const TemporaryFolder folder;
  const LoadedRun run = load_run(train_run(folder / "run", small_adatape()), {}, at::kCPU);
  const TapeUsage usage = measure_tape_usage(run, at::kCPU, 120, 3);
  ASSERT_GE(usage.shown.size(), 3u);
  const Batch batch = run.task->held_out_batch(Split::kTest, 0, 3);
  for (size_t i = 0; i < 3; ++i) {
    const ShownExample& example = usage.shown[i];
    EXPECT_EQ(example.index, static_cast<int64_t>(i));
    EXPECT_EQ(example.label, batch.labels[static_cast<int64_t>(i)].item<int64_t>());
    ASSERT_EQ(example.symbols.size(), 8u);
    EXPECT_EQ(example.symbols[5], batch.symbols[static_cast<int64_t>(i) * 8 + 5].item<int64_t>());
    ASSERT_EQ(example.readings.size(), 1u);
    const ExampleReading& reading = example.readings[0];
    EXPECT_EQ(reading.bank_rows, 8);
    EXPECT_EQ(reading.longest, 4);
    ASSERT_TRUE(reading.threshold.has_value());
    EXPECT_DOUBLE_EQ(*reading.threshold, 1.7);
    EXPECT_EQ(static_cast<double>(reading.steps.size()), usage.lengths[i]);
    std::set<int64_t> read;
    double halting = 0;
    for (size_t t = 0; t < reading.steps.size(); ++t) {
      const ReadingStep& step = reading.steps[t];
      ASSERT_EQ(step.rows.size(), 2u);
      EXPECT_NEAR(step.weights[0] + step.weights[1], 1, 1e-5);
      for (const int64_t row : step.rows) EXPECT_TRUE(read.insert(row).second) << "row " << row << " was read twice";
      halting += step.weights[0];
      EXPECT_NEAR(step.halting, halting, 1e-5);
      const bool last = t + 1 == reading.steps.size();
      EXPECT_EQ(halting >= 1.7 - 1e-5 || t + 1 == 4, last);
    }
  }
  // The first wrong one of the rest, and no other.
  ASSERT_LE(usage.shown.size(), 4u);
  if (usage.shown.size() == 4) {
    EXPECT_NE(usage.shown[3].label, usage.shown[3].answer);
  }
}

TEST(TapeUsage, ReadersWithoutThresholdHaveNone) {
  const TemporaryFolder folder;
  const LoadedRun run = load_run(train_run(folder / "run", small_adatape({"model.readers.0.halting=none"})), {}, at::kCPU);
  const TapeUsage usage = measure_tape_usage(run, at::kCPU, 10, 1);
  EXPECT_FALSE(usage.shown.at(0).readings.at(0).threshold.has_value());
  EXPECT_EQ(usage.shown[0].readings[0].steps.size(), 4u);
}

TEST(TapeUsage, ModelsWithoutReadersHaveCostAlone) {
  const TemporaryFolder folder;
  const LoadedRun run = load_run(train_run(folder / "run", tiny_config()), {}, at::kCPU);
  const TapeUsage usage = measure_tape_usage(run, at::kCPU, 5000, 3);
  EXPECT_FALSE(usage.has_readers);
  EXPECT_TRUE(usage.lengths.empty());
  EXPECT_TRUE(usage.shown.empty());
  EXPECT_EQ(usage.examples, kCostExamples);
  EXPECT_FALSE(usage.cost.empty());
}

// Means over examples of steps that a model records for tokens or elements, worked out here from one forward pass.
TEST(TapeUsage, PonderingOfElementsTokensAndExamples) {
  const TemporaryFolder folder;
  const auto trained = [&](const std::string& name, const std::string& toml) {
    RunConfig config = RunConfig::from_document(ConfigDocument::from_text(toml + R"(
[training]
steps = 2
batch_size = 8
validation_examples = 8
[evaluation]
test_examples = 20
batch_size = 7
)"));
    return load_run(train_run(folder / name, std::move(config)), {}, at::kCPU);
  };
  const LoadedRun act =
      trained("act", "label = \"act\"\n[task]\nname = \"logic\"\n[model]\nname = \"act_rnn\"\nwidth = 8\nhalting_bias = -1\n");
  TapeUsage usage = measure_tape_usage(act, at::kCPU, 30, 0);
  EXPECT_TRUE(usage.ponder_by_element);
  Batch batch = act.task->held_out_batch(Split::kTest, 0, 30);
  EXPECT_EQ(usage.examples, 30);
  EXPECT_EQ(static_cast<int64_t>(usage.ponder_steps.size()), batch.offsets.back());
  const at::Tensor gates = act.task->element_covariate(batch);
  for (int64_t e : {0, 5, 17}) EXPECT_EQ(usage.ponder_covariates[static_cast<size_t>(e)], gates[e].item<double>());
  double of_places = 0;
  for (const TapeUsage::PositionSteps& place : usage.ponder_positions) of_places += place.sum;
  EXPECT_NEAR(of_places, std::accumulate(usage.ponder_steps.begin(), usage.ponder_steps.end(), 0.0), 1e-6);

  // A class token beside the symbols of ragged sequences.
  const LoadedRun universal = trained("universal", R"(label = "universal"
[task]
name = "nested_arithmetic"
[model]
name = "universal_transformer"
width = 8
heads = 2
ffn_width = 8
class_token = true
pooling = "token"
max_steps = 3
halting = "per_token"
)");
  usage = measure_tape_usage(universal, at::kCPU, 30, 0);
  EXPECT_FALSE(usage.ponder_by_element);
  ASSERT_EQ(usage.ponder_steps.size(), 30u);
  batch = universal.task->held_out_batch(Split::kTest, 0, 30);
  const at::Tensor steps = universal.model->forward(batch, {.record = true}).intermediates.at("steps").to(at::kDouble);
  ASSERT_EQ(steps.numel(), batch.offsets[30] + 30);
  for (int64_t b : {0, 6, 7, 29}) {
    const double mean =
        steps.slice(0, batch.offsets[static_cast<size_t>(b)] + b, batch.offsets[static_cast<size_t>(b) + 1] + b + 1).mean().item<double>();
    EXPECT_NEAR(usage.ponder_steps[static_cast<size_t>(b)], mean, 1e-9) << b;
  }
  // Place 3 is the class token's and three symbols' after it, of sequences that are as long.
  double sum = 0;
  int64_t reaching = 0, longest = 0;
  for (size_t b = 0; b < 30; ++b) {
    const int64_t length = batch.offsets[b + 1] - batch.offsets[b];
    longest = std::max(longest, length);
    if (length <= 3) continue;
    ++reaching;
    sum += steps[batch.offsets[b] + static_cast<int64_t>(b) + 1 + 3].item<double>();
  }
  ASSERT_EQ(static_cast<int64_t>(usage.ponder_positions.size()), longest);
  EXPECT_EQ(usage.ponder_positions[3].examples, reaching);
  EXPECT_NEAR(usage.ponder_positions[3].mean(), sum / static_cast<double>(reaching), 1e-9);

  // Where the task says how hard each element is, a class token beside them is passed over.
  const LoadedRun gated = trained("gated", R"(label = "gated"
[task]
name = "logic"
[model]
name = "universal_transformer"
width = 8
heads = 2
ffn_width = 8
class_token = true
max_steps = 3
halting = "per_token"
)");
  usage = measure_tape_usage(gated, at::kCPU, 30, 0);
  batch = gated.task->held_out_batch(Split::kTest, 0, 30);
  EXPECT_TRUE(usage.ponder_by_element);
  EXPECT_EQ(static_cast<int64_t>(usage.ponder_steps.size()), batch.offsets.back());
  EXPECT_EQ(usage.ponder_steps.size(), usage.ponder_covariates.size());

  const LoadedRun pondernet = trained("pondernet", R"(label = "pondernet"
[task]
name = "parity"
form = "vector"
length = 8
[model]
name = "pondernet"
width = 8
max_steps = 5
halting_threshold = 0.6
)");
  usage = measure_tape_usage(pondernet, at::kCPU, 30, 0);
  ASSERT_EQ(usage.ponder_steps.size(), 30u);
  EXPECT_TRUE(usage.ponder_positions.empty());
  const double mean = std::accumulate(usage.ponder_steps.begin(), usage.ponder_steps.end(), 0.0) / 30;
  EXPECT_GE(mean, 1);
  EXPECT_LE(mean, 5);
}

// Tape tokens stand behind the symbols, and longer sequences have more of them here: none is a place of the sequence, and each example's
// mean is over its own tokens.
TEST(TapeUsage, TapesOfDifferentLengthsAreNoPlacesOfTheSequence) {
  const TemporaryFolder folder;
  RunConfig config = RunConfig::from_document(ConfigDocument::from_text(R"(label = "tape"
[task]
name = "nested_arithmetic"
[model]
name = "universal_transformer"
width = 16
heads = 2
ffn_width = 16
class_token = true
pooling = "token"
max_steps = 4
halting = "per_token"
halting_bias = -0.5
[[model.banks]]
name = "input"
kind = "input"
[[model.readers]]
before_block = 0
max_tape_tokens = "bank"
rows_per_step = 2
halting = "none"
[training]
steps = 2
batch_size = 8
validation_examples = 8
[evaluation]
test_examples = 20
batch_size = 7
)"));
  const LoadedRun run = load_run(train_run(folder / "run", std::move(config)), {}, at::kCPU);
  for (const NamedParameter& parameter : run.model->named_parameters()) {
    if (parameter.name == "halting.weight") parameter.tensor.detach().copy_(at::linspace(-2, 2, 16).view({1, 16}));
  }
  const TapeUsage usage = measure_tape_usage(run, at::kCPU, 30, 0);
  const Batch batch = run.task->held_out_batch(Split::kTest, 0, 30);
  const ModelOutput output = run.model->forward(batch, {.record = true});
  const at::Tensor steps = output.intermediates.at("steps").to(at::kDouble), tapes = output.readings.at(0).lengths;
  ASSERT_LT(tapes.min().item<int64_t>(), tapes.max().item<int64_t>());
  ASSERT_LT(steps.min().item<double>(), steps.max().item<double>());

  std::vector<double> sums;
  int64_t first = 0;
  ASSERT_EQ(usage.ponder_steps.size(), 30u);
  for (int64_t b = 0; b < 30; ++b) {
    const int64_t length = batch.offsets[static_cast<size_t>(b) + 1] - batch.offsets[static_cast<size_t>(b)],
                  tokens = 1 + length + tapes[b].item<int64_t>();
    EXPECT_NEAR(usage.ponder_steps[static_cast<size_t>(b)], steps.slice(0, first, first + tokens).mean().item<double>(), 1e-9) << b;
    sums.resize(std::max(sums.size(), static_cast<size_t>(length)));
    for (int64_t place = 0; place < length; ++place) sums[static_cast<size_t>(place)] += steps[first + 1 + place].item<double>();
    first += tokens;
  }
  ASSERT_EQ(first, steps.numel());
  ASSERT_EQ(usage.ponder_positions.size(), sums.size());
  EXPECT_EQ(usage.ponder_positions[0].examples, 30);
  for (size_t place = 0; place < sums.size(); ++place) EXPECT_NEAR(usage.ponder_positions[place].sum, sums[place], 1e-6) << place;
}

}  // namespace
}  // namespace adatape
