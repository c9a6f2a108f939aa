// What holds for every model: an example's result is its own, records change nothing, the cost is what was computed.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "model_cases.h"

namespace adatape {
namespace {

using testing::chosen;
using testing::ModelCase;
using testing::product_rows_of;

class EveryModel : public ::testing::TestWithParam<ModelCase> {};

ModelOutput forward(Model& model, const Batch& batch, bool record = true, bool training = false) {
  ForwardOptions options;
  options.record = record;
  options.training = training;
  options.seed = 3;
  options.step = 11;
  return model.forward(batch, options);
}

double largest_difference(const torch::Tensor& a, const torch::Tensor& b) { return (a - b).abs().max().item<double>(); }

// The logits of an example: its one row, or a row an element.
torch::Tensor logits_of(const ModelOutput& output, int64_t example) {
  if (!output.logits_layout) return output.logits[example];
  return output.logits.slice(0, output.logits_layout->offsets()[example], output.logits_layout->offsets()[example + 1]);
}

// Example `place` of output against the only example of alone. Rows may differ only where scores are as good as equal; with these weights
// they never are.
void expect_same(const ModelOutput& output, int64_t place, const ModelOutput& alone) {
  EXPECT_LE(largest_difference(logits_of(output, place), logits_of(alone, 0)),
            2e-6 * std::max(1.0, alone.logits.abs().max().item<double>()));
  ASSERT_EQ(output.readings.size(), alone.readings.size());
  for (size_t r = 0; r < output.readings.size(); ++r) {
    const TapeReading &together = output.readings[r], &single = alone.readings[r];
    const int64_t length = single.lengths[0].item<int64_t>();
    ASSERT_EQ(together.lengths[place].item<int64_t>(), length);
    EXPECT_TRUE(together.indices[place].narrow(0, 0, length).equal(single.indices[0].narrow(0, 0, length)));
    EXPECT_LE(largest_difference(together.weights[place].narrow(0, 0, length), single.weights[0].narrow(0, 0, length)), 1e-6);
  }
  ASSERT_EQ(output.block_tokens.size() >= alone.block_tokens.size(), true);
  for (size_t block = 0; block < output.block_tokens.size(); ++block) {
    EXPECT_EQ(output.block_tokens[block][place], block < alone.block_tokens.size() ? alone.block_tokens[block][0] : 0);
  }
  for (size_t i = 0; i < output.auxiliary_losses.size(); ++i) {
    if (output.auxiliary_losses[i].of_batch) continue;  // the stated exception
    EXPECT_NEAR(output.auxiliary_losses[i].values[place].item<double>(), alone.auxiliary_losses[i].values[0].item<double>(), 2e-6);
  }
}

struct Flops {
  int64_t products = 0, readings = 0;  // what a tape reading scores and merges is inside one operator
};

Flops flops_of(const ModelOutput& output) {
  Flops sums;
  for (const WorkItem& item : output.work) {
    const int64_t flops = std::accumulate(item.rows.begin(), item.rows.end(), int64_t{0}) * item.flops_per_row;
    const bool reading = item.part.find(" / scores") != std::string::npos || item.part.find(" / merge") != std::string::npos;
    (reading ? sums.readings : sums.products) += flops;
  }
  return sums;
}

TEST_P(EveryModel, PackedForInferenceItAnswersTheSame) {
  const auto model = GetParam().make();
  const Batch batch = GetParam().batch(1);
  torch::NoGradGuard no_grad;
  ModelOutput before = forward(*model, batch);
  std::erase_if(before.work, [](const WorkItem& item) { return item.part.starts_with("bank ") && item.part.ends_with(" / projection"); });
  model->pack_for_inference(torch::kFloat);
  const int64_t flops = matrix_product_flops();
  const ProductRowCounter counter;
  const ModelOutput after = forward(*model, batch);
  EXPECT_EQ(product_rows_of(after), counter.rows());
  EXPECT_LE(largest_difference(before.logits, after.logits), 1e-5 * std::max(1.0, before.logits.abs().max().item<double>()));
  EXPECT_EQ(before.block_tokens, after.block_tokens);
  ASSERT_EQ(before.work.size(), after.work.size());
  for (size_t i = 0; i < before.work.size(); ++i) EXPECT_EQ(before.work[i].part, after.work[i].part);
  EXPECT_EQ(flops_of(after).products, matrix_product_flops() - flops);
  model->unpack_weights();
  EXPECT_TRUE(forward(*model, batch).logits.equal(before.logits));
  if (!ops::has_bfloat16_products()) return;
  model->pack_for_inference(torch::kBFloat16);
  EXPECT_TRUE(forward(*model, batch).logits.isfinite().all().item<bool>());
}

// The registry says which answers depend on no later element; a task that asks what comes next goes by that (train/run_config.cc).
TEST_P(EveryModel, CausalModelsDoNotReadAhead) {
  if (!GetParam().spec.answers_each) return;  // one answer an example
  torch::NoGradGuard no_grad;
  const auto model = GetParam().make();
  const Batch batch = GetParam().batch();
  Batch other = batch;
  const std::vector<int64_t>& offsets = batch.answer_offsets();
  const int64_t changed = offsets[2] - 1;  // the last element of the second example
  if (batch.vectors.defined()) {
    other.vectors = batch.vectors.clone();
    other.vectors[changed] += 3;
  } else {
    torch::Tensor& symbols = batch.decoder_symbols.defined() ? other.decoder_symbols : other.symbols;
    symbols = symbols.clone();
    symbols[changed] = (symbols[changed] + 1) % GetParam().spec.vocabulary;
  }
  const torch::Tensor before = forward(*model, batch).logits, after = forward(*model, other).logits;
  const auto difference = [&](int64_t first, int64_t end) {
    return largest_difference(before.slice(0, first, end), after.slice(0, first, end));
  };
  EXPECT_GT(difference(changed, changed + 1), 1e-4);
  const double earlier = difference(offsets[1], changed);
  if (find_model(GetParam().model).causal) {
    EXPECT_LE(earlier, 1e-6);
  } else {
    EXPECT_GT(earlier, 1e-4);
  }
}

TEST_P(EveryModel, AnExampleIsTheSameAloneInAnyBatchAndOrder) {
  torch::NoGradGuard no_grad;
  const auto model = GetParam().make();
  std::mt19937 random(5);
  for (const bool training : {false, true}) {
    const Batch batch = GetParam().batch(training ? 2 : 1);
    std::vector<ModelOutput> alone;
    for (int64_t b = 0; b < batch.size(); ++b) alone.push_back(forward(*model, chosen(batch, {b}), true, training));
    std::vector<int64_t> which(static_cast<size_t>(batch.size()));
    std::iota(which.begin(), which.end(), 0);
    for (int round = 0; round < 4; ++round) {
      const ModelOutput output = forward(*model, chosen(batch, which), true, training);
      for (size_t place = 0; place < which.size(); ++place) {
        SCOPED_TRACE(::testing::Message() << "round " << round << ", example " << which[place] << " at " << place << ", training "
                                          << training);
        expect_same(output, static_cast<int64_t>(place), alone[which[place]]);
      }
      std::shuffle(which.begin(), which.end(), random);
      if (round == 1) which.resize(which.size() - 2);
    }
  }
}

TEST_P(EveryModel, ExamplesHaveDifferentResults) {  // else the test above could not fail
  torch::NoGradGuard no_grad;
  const ModelOutput output = forward(*GetParam().make(), GetParam().batch());
  const auto last_row = [&](int64_t example) { return logits_of(output, example).view({-1, GetParam().spec.classes})[-1]; };
  EXPECT_GT(largest_difference(last_row(0), last_row(1)), 1e-3);
  EXPECT_GT(largest_difference(last_row(1), last_row(5)), 1e-3);
}

TEST_P(EveryModel, RecordingChangesNothing) {
  torch::NoGradGuard no_grad;
  const auto model = GetParam().make();
  const Batch batch = GetParam().batch();
  const ModelOutput with = forward(*model, batch, true), without = forward(*model, batch, false);
  EXPECT_LE(largest_difference(with.logits, without.logits), 1e-6);
  EXPECT_TRUE(without.work.empty());
  EXPECT_TRUE(without.block_tokens.empty());
  EXPECT_FALSE(with.work.empty());
}

TEST_P(EveryModel, TheCostIsWhatWasComputed) {
  torch::NoGradGuard no_grad;
  const auto model = GetParam().make();
  const Batch batch = GetParam().batch();
  const int64_t before = matrix_product_flops();
  const ProductRowCounter counter;
  const ModelOutput output = forward(*model, batch);
  const int64_t done = matrix_product_flops() - before;
  EXPECT_EQ(product_rows_of(output), counter.rows());
  EXPECT_FALSE(counter.rows().empty());
  for (const WorkItem& item : output.work) ASSERT_EQ(static_cast<int64_t>(item.rows.size()), batch.size()) << item.part;
  const auto [products, readings] = flops_of(output);
  EXPECT_EQ(products, done);
  // The reader scores and merges inside one operator: what it says it read, counted from its answer.
  int64_t read = 0;
  const bool by_query = GetParam().keys.find("selection") == std::string::npos;
  for (const TapeReading& reading : output.readings) {
    read += 2 * 16 * (reading.indices >= 0).sum().item<int64_t>();
    const bool own = GetParam().label == "adatape_learnable" || GetParam().label == "universal_tape_each_per_example" ||
                     (GetParam().label == "adatape_two_readers" && reading.reader == 2);
    for (int64_t b = 0; by_query && b < batch.size(); ++b) {
      const int64_t rows = own                                                       ? (reading.reader == 2 ? 11 : 12)
                           : !batch.images.defined()                                 ? batch.offsets[b + 1] - batch.offsets[b]
                           : GetParam().keys.find("resolution") != std::string::npos ? 9
                                                                                     : 12;  // 3 x 3, or 4 x 3 patches of side 3
      read += 2 * (16 / 4) * rows * reading.lengths[b].item<int64_t>();
    }
  }
  EXPECT_EQ(readings, read);
}

TEST_P(EveryModel, GradientsAreFiniteAndReachEveryParameter) {
  const auto model = GetParam().make();
  const Batch batch = GetParam().batch();
  const ModelOutput output = forward(*model, batch, false, true);
  torch::Tensor objective = (output.logits * torch::linspace(-1, 1, output.logits.numel()).view_as(output.logits)).sum();
  for (const AuxiliaryLoss& loss : output.auxiliary_losses) objective = objective + loss.values.mean();
  objective.backward();
  for (const NamedParameter& parameter : model->named_parameters()) {
    // The last block's tape tokens are not pooled where a class token is.
    const bool avit = GetParam().label == "avit_tape";
    const char* last = avit ? "block_3." : GetParam().model == "u2t" ? "block_2." : "block_1.";
    const bool unused = (avit || GetParam().keys.find("pooling = \"token\"") != std::string::npos) &&
                        parameter.name.find(last + std::string("tape_feed_forward")) == 0;
    if (unused && GetParam().keys.find("last_block") != std::string::npos) continue;  // not even computed
    ASSERT_TRUE(parameter.tensor.grad().defined()) << parameter.name;
    EXPECT_TRUE(torch::isfinite(parameter.tensor.grad()).all().item<bool>()) << parameter.name;
    EXPECT_TRUE(unused || parameter.tensor.grad().abs().sum().item<double>() > 0) << parameter.name;
  }
}

TEST_P(EveryModel, EqualSeedsGiveEqualBits) {
  const auto one = GetParam().make(), two = GetParam().make();
  one->initialize(5, 2);
  two->initialize(5, 2);
  const auto parameters = one->named_parameters(), same = two->named_parameters();
  for (size_t i = 0; i < parameters.size(); ++i) EXPECT_TRUE(parameters[i].tensor.equal(same[i].tensor)) << parameters[i].name;
  two->initialize(5, 3);
  const auto other = two->named_parameters();
  EXPECT_FALSE(std::equal(parameters.begin(), parameters.end(), other.begin(),
                          [](const auto& a, const auto& b) { return a.tensor.equal(b.tensor); }));
}

// Empty batches are answered with no rows.
TEST_P(EveryModel, NoExamples) {
  torch::NoGradGuard no_grad;
  Batch none;
  none.examples = torch::zeros({0}, torch::kInt64);
  if (GetParam().lengths.empty()) {
    none.images = torch::zeros({0, GetParam().spec.channels, GetParam().spec.height, GetParam().spec.width});
  } else if (GetParam().spec.kind == InputSpec::Kind::kVectors) {
    none.vectors = torch::zeros({0, GetParam().spec.dimension});
    none.offsets = {0};
  } else {
    none.symbols = torch::zeros({0}, torch::kInt64);
    none.offsets = {0};
  }
  none = testing::with_decoder(none, GetParam().spec, 1);
  const auto model = GetParam().make();
  EXPECT_EQ(forward(*model, none).logits.sizes(), (at::IntArrayRef{0, GetParam().spec.classes}));
  model->pack_for_inference(torch::kFloat);
  EXPECT_EQ(forward(*model, none).logits.sizes(), (at::IntArrayRef{0, GetParam().spec.classes}));
}

TEST_P(EveryModel, WrongBatchesAreNamed) {
  const auto model = GetParam().make();
  const auto error = [&](const Batch& batch) -> std::string {
    try {
      forward(*model, batch);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  const bool images = GetParam().lengths.empty(), vectors = GetParam().spec.kind == InputSpec::Kind::kVectors;
  const Batch other = images ? testing::symbol_batch({3}, 4, 1) : testing::image_batch(2, testing::image_spec(), 1);
  EXPECT_THAT(error(other), ::testing::HasSubstr(images ? "expected images" : vectors ? "expected vectors" : "expected symbols"));
  if (vectors) {
    EXPECT_THAT(error(testing::vector_batch({1, 1}, 4, 1)), ::testing::HasSubstr("expected vectors [2, 5], got [2, 4]"));
  } else if (images) {
    EXPECT_THAT(error(testing::image_batch(2, testing::image_spec(12, 10), 1)),
                ::testing::HasSubstr("expected images [B, 2, 13, 10], got [2, 2, 12, 10]"));
  } else {
    EXPECT_THAT(error(testing::symbol_batch({9, 9}, 6, 1)), ::testing::HasSubstr("expected symbols 0 .. 3, got 0 .. 5"));
  }
}

// A sequence without symbols is an example like others: finite, and no other example's result moves.
class EverySequenceModel : public EveryModel {};
TEST_P(EverySequenceModel, EmptySequences) {
  torch::NoGradGuard no_grad;
  const auto model = GetParam().make();
  const InputSpec& spec = GetParam().spec;
  const Batch batch = spec.kind == InputSpec::Kind::kVectors
                          ? testing::vector_batch({0, 4, 0}, spec.dimension, 3)
                          : testing::with_decoder(testing::symbol_batch({0, 4, 0}, spec.vocabulary, 3), spec, 3);
  const ModelOutput together = forward(*model, batch), alone = forward(*model, chosen(batch, {1})),
                    empty = forward(*model, chosen(batch, {0, 2}));
  EXPECT_TRUE(torch::isfinite(together.logits).all().item<bool>());
  EXPECT_LE(largest_difference(logits_of(together, 1), logits_of(alone, 0)), 1e-6);
  if (together.logits_layout) return;  // no elements, no answers
  EXPECT_LE(largest_difference(together.logits[0], empty.logits[0]), 1e-6);
}

std::vector<ModelCase> sequence_cases() {  // flat input has one length
  std::vector<ModelCase> cases = testing::model_cases();
  std::erase_if(cases, [](const ModelCase& one) {  // and some read single vectors only
    return one.lengths.empty() || one.spec.length == 1 || one.keys.find("\"flat\"") != std::string::npos;
  });
  return cases;
}
INSTANTIATE_TEST_SUITE_P(All, EverySequenceModel, ::testing::ValuesIn(sequence_cases()),
                         [](const auto& which) { return which.param.label; });

INSTANTIATE_TEST_SUITE_P(All, EveryModel, ::testing::ValuesIn(testing::model_cases()), [](const auto& which) { return which.param.label; });

TEST(ModelRegistryTest, TheCasesCoverIt) {
  std::set<std::string> covered;
  for (const ModelCase& one : testing::model_cases()) covered.insert(one.model);
  for (const ModelEntry& entry : model_registry())
    EXPECT_EQ(covered.count(entry.name), 1u) << entry.name << " has no case in model_cases.h";
}

TEST(ModelRegistryTest, UnknownNamesGetTheNearest) {
  try {
    find_model("adatpe");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("got \"adatpe\"; did you mean \"adatape\"?"));
  }
}

}  // namespace
}  // namespace adatape
