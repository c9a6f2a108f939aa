#include "adatape/nn/stem.h"

#include <set>
#include "adatape/nn/head.h"
#include "adatape/nn/patches.h"
#include "adatape/nn/tape_bank.h"

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using Kind = TokenKind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::largest_difference;
using testing::random_tensor;

InputSpec images(int64_t height, int64_t width) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 2;
  spec.height = height;
  spec.width = width;
  spec.classes = 3;
  return spec;
}

InputSpec symbols(int64_t length = 4) {
  InputSpec spec;
  spec.vocabulary = 3;
  spec.length = length;
  spec.classes = 3;
  return spec;
}

Batch sequences(const std::vector<std::vector<int64_t>>& all) {
  Batch batch;
  std::vector<int64_t> flat;
  batch.offsets = {0};
  for (const auto& one : all) {
    flat.insert(flat.end(), one.begin(), one.end());
    batch.offsets.push_back(static_cast<int64_t>(flat.size()));
  }
  batch.symbols = torch::tensor(flat, torch::kInt64);
  return batch;
}

std::shared_ptr<Stem> stem_of(StemConfig config, const InputSpec& spec) {
  config.resolve(spec);
  auto stem = std::make_shared<Stem>(config, spec, 5);
  testing::perturb(*stem, 1, 1.0);
  return stem;
}

TEST(StemTest, PatchesAreAConvolutionAndLeftOverPixelsAreDropped) {
  torch::NoGradGuard no_grad;
  const torch::Tensor pixels = random_tensor({2, 2, 7, 11}, 1);
  StemConfig config;
  config.patch = 3;
  const auto stem = stem_of(config, images(7, 11));
  Batch batch;
  batch.images = pixels;
  const PackedTokens tokens = stem->forward(batch, {});
  EXPECT_THAT(tokens.layout->lengths(), ElementsAre(6, 6));
  const torch::Tensor convolved = at::conv2d(pixels, stem->patch_weight, stem->bias, {3, 3}).flatten(2).transpose(1, 2) + stem->positions;
  EXPECT_LE(largest_difference(tokens.values.view({2, 6, 5}), convolved), 1e-5);
  batch.images = pixels.clone();
  batch.images.slice(2, 6).fill_(NAN);
  batch.images.slice(3, 9).fill_(NAN);
  EXPECT_TRUE(stem->forward(batch, {}).values.equal(tokens.values));
}

// The copied lines are those of the strided views, whose bits float64 takes the other way.
TEST(StemTest, PatchRowsAreTheSameCopiedAndViewed) {
  for (const int64_t patch : {1, 3, 4, 8, 16}) {
    const torch::Tensor pixels = random_tensor({2, 2, 33, 37}, 2);
    const torch::Tensor across = pixels.transpose(0, 1);  // strides of its own, lines still adjacent
    for (const torch::Tensor& given : {pixels, across, pixels.narrow(3, 1, 20), pixels.transpose(2, 3), pixels.narrow(0, 0, 0)}) {
      const torch::Tensor rows = patch_rows(given, patch);
      EXPECT_TRUE(rows.equal(patch_rows(given.to(torch::kDouble), patch).to(torch::kFloat))) << patch << " " << given.strides();
    }
  }
  const torch::Tensor learned = random_tensor({1, 2, 4, 4}, 3).requires_grad_();
  patch_rows(learned, 2).sum().backward();
  EXPECT_TRUE(learned.grad().equal(torch::ones_like(learned)));
}

TEST(StemTest, ClassTokenFirstWithAPositionOfItsOwn) {
  torch::NoGradGuard no_grad;
  StemConfig config;
  config.class_token = true;
  const auto stem = stem_of(config, symbols());
  const PackedTokens tokens = stem->forward(sequences({{2, 0}, {}, {1, 1, 2}}), {});
  EXPECT_THAT(tokens.layout->lengths(), ElementsAre(3, 1, 4));
  EXPECT_THAT(tokens.layout->lengths_of(Kind::kClass), ElementsAre(1, 1, 1));
  const auto embedded = [&](int64_t symbol, int64_t place) {
    return stem->symbol_weight.select(1, symbol) + stem->bias + stem->positions[place];
  };
  for (const int64_t row : {0, 3, 4}) EXPECT_LE(largest_difference(tokens.values[row], stem->class_token + stem->positions[0]), 1e-6);
  EXPECT_LE(largest_difference(tokens.values[1], embedded(2, 1)), 1e-6);
  EXPECT_LE(largest_difference(tokens.values[2], embedded(0, 2)), 1e-6);
  EXPECT_LE(largest_difference(tokens.values[7], embedded(2, 3)), 1e-6);
}

TEST(StemTest, FlatIsALinearOfAllOneHotVectors) {
  torch::NoGradGuard no_grad;
  StemConfig config;
  config.input = "flat";
  const auto stem = stem_of(config, symbols());
  const PackedTokens tokens = stem->forward(sequences({{2, 0, 1, 1}, {0, 0, 0, 2}}), {});
  const torch::Tensor one_hot = at::one_hot(torch::tensor({{2, 0, 1, 1}, {0, 0, 0, 2}}), 3).to(torch::kFloat).view({2, 12});
  EXPECT_LE(largest_difference(tokens.values, one_hot.mm(stem->symbol_weight.t()) + stem->bias), 1e-6);
  EXPECT_THAT(error_of([&] { stem->forward(sequences({{1, 1}}), {}); }), HasSubstr("expected sequences of length 4, got 2"));
}

TEST(StemTest, VectorsAreTokensOrOneFlatToken) {
  torch::NoGradGuard no_grad;
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = 3;
  spec.length = 2;
  spec.classes = 2;
  Batch batch;
  batch.vectors = random_tensor({4, 3}, 1);
  batch.offsets = {0, 2, 2, 4};
  StemConfig config;
  const auto stem = stem_of(config, spec);
  const PackedTokens tokens = stem->forward(batch, {});
  EXPECT_THAT(tokens.layout->lengths(), ElementsAre(2, 0, 2));
  const torch::Tensor projected = batch.vectors.mm(stem->vector_weight.t()) + stem->bias + stem->positions.repeat({2, 1});
  EXPECT_LE(largest_difference(tokens.values, projected), 1e-5);
  config.input = "flat";
  const auto flat = stem_of(config, spec);
  EXPECT_THAT(error_of([&] { flat->forward(batch, {}); }), HasSubstr("expected sequences of length 2, got 0"));
  batch.offsets = {0, 2, 4};
  EXPECT_LE(largest_difference(flat->forward(batch, {}).values, batch.vectors.view({2, 6}).mm(flat->vector_weight.t()) + flat->bias), 1e-5);
  batch.vectors = batch.vectors.narrow(1, 0, 2);
  EXPECT_THAT(error_of([&] { stem->forward(batch, {}); }), HasSubstr("expected vectors [4, 3], got [4, 2]"));
  EXPECT_THAT(error_of([&] { stem->forward(sequences({{1}}), {}); }), HasSubstr("expected vectors, got a batch without them"));
}

TEST(StemTest, AClassTokenAlone) {
  torch::NoGradGuard no_grad;
  StemConfig config;
  config.input = "class_token";
  const auto stem = stem_of(config, symbols());
  const PackedTokens tokens = stem->forward(sequences({{2}, {}, {1, 1, 2, 0, 0, 0, 0}}), {});
  EXPECT_THAT(tokens.layout->lengths(), ElementsAre(1, 1, 1));
  EXPECT_TRUE(tokens.values.equal(stem->class_token.expand({3, 5})));
}

TEST(StemTest, Errors) {
  const auto stem = stem_of({}, symbols());
  EXPECT_THAT(error_of([&] { stem->forward(sequences({{1, 1, 1, 1, 1}}), {}); }), HasSubstr("at most 4 tokens (learned positions), got 5"));
  EXPECT_THAT(error_of([&] { stem->forward(sequences({{1, 3}}), {}); }), HasSubstr("expected symbols 0 .. 2, got 1 .. 3"));
  EXPECT_THAT(error_of([&] { stem->forward(sequences({{-1}}), {}); }), HasSubstr("expected symbols 0 .. 2, got -1 .. -1"));
  StemConfig config;
  config.input = "patches";
  EXPECT_THAT(error_of([&] { config.resolve(symbols()); }), HasSubstr("\"patches\" cannot read symbols"));
  config.input = "flat";
  EXPECT_THAT(error_of([&] { config.resolve(images(8, 8)); }), HasSubstr("\"flat\" cannot read images"));
  config.input = "auto";
  config.patch = 9;
  EXPECT_THAT(error_of([&] { config.resolve(images(8, 20)); }), HasSubstr("expected at most the image's 8 x 20, got 9"));
}

TEST(TapeBankTest, SymbolsOfOneKindAreEqualBits) {
  torch::NoGradGuard no_grad;
  TapeBank bank({}, symbols(), 5);
  testing::perturb(bank, 1, 1.0);
  const BankRows rows = bank.forward(sequences({{2, 0, 2}, {}, {2}}), {});
  EXPECT_THAT(rows.layout->lengths(), ElementsAre(3, 0, 1));
  EXPECT_EQ(rows.rows_of(0), 3);
  EXPECT_TRUE(rows.values[0].equal(rows.values[2]));
  EXPECT_TRUE(rows.values[0].equal(rows.values[3]));
  EXPECT_LE(largest_difference(rows.values[1], bank.symbol_weight.select(1, 0) + bank.bias), 1e-6);
}

TEST(TapeBankTest, PositionsOfSymbols) {
  torch::NoGradGuard no_grad;
  TapeBankConfig config;
  config.positions = "on";
  TapeBank bank(config, symbols(), 5);
  testing::perturb(bank, 1, 1.0);
  const BankRows rows = bank.forward(sequences({{1}, {1, 1}}), {});
  EXPECT_TRUE(rows.values[0].equal(rows.values[1]));
  EXPECT_LE(largest_difference(rows.values[2] - rows.values[1], bank.positions[1] - bank.positions[0]), 1e-6);
  EXPECT_THAT(error_of([&] {
                bank.forward(sequences({{0, 0, 0, 0, 0}}), {});
              }),
              HasSubstr("at most 4 elements (learned positions), got 5"));
}

TEST(TapeBankTest, PackedTheTwoLinearMapsOfImagesAreOneAndCountAsOne) {
  torch::NoGradGuard no_grad;
  for (const char* const positions : {"on", "off"}) {
    TapeBankConfig config;
    config.patch = 3;
    config.positions = positions;
    TapeBank bank(config, images(9, 9), 5);
    testing::perturb(bank, 1, 0.5);
    Batch batch;
    batch.images = random_tensor({2, 2, 9, 9}, 1);
    const BankRows before = bank.forward(batch, {});
    for (const torch::Dtype products : {torch::kFloat, torch::kBFloat16}) {  // rows are never rounded
      if (products == torch::kBFloat16 && !ops::has_bfloat16_products()) continue;
      bank.pack_for_inference(products);
      const int64_t flops = matrix_product_flops();
      const BankRows after = bank.forward(batch, {});
      EXPECT_EQ(matrix_product_flops() - flops, 2 * 18 * (2 * 3 * 3) * 5);
      EXPECT_THAT(after.layout->lengths(), ElementsAre(9, 9));
      EXPECT_LE(largest_difference(before.values, after.values), 2e-6);
    }
    torch::AutoGradMode gradient(true);
    EXPECT_TRUE(bank.forward(batch, {}).values.detach().equal(before.values));
  }
}

TEST(TapeBankTest, ImagesAtTheirOwnAndAnotherResolution) {
  torch::NoGradGuard no_grad;
  for (const int64_t resolution : {0, 6}) {
    TapeBankConfig config;
    config.patch = 3;
    config.resolution = resolution;
    TapeBank bank(config, images(9, 9), 5);
    testing::perturb(bank, 1, 0.5);
    Batch batch;
    batch.images = random_tensor({2, 2, 9, 9}, 1);
    const torch::Tensor pixels = resolution == 0 ? batch.images : at::_upsample_bilinear2d_aa(batch.images, {6, 6}, false);
    const torch::Tensor patches = at::conv2d(pixels, bank.patch_weight, bank.bias, {3, 3}).flatten(2).transpose(1, 2) + bank.positions;
    const BankRows rows = bank.forward(batch, {});
    const int64_t count = resolution == 0 ? 9 : 4;
    EXPECT_THAT(rows.layout->lengths(), ElementsAre(count, count));
    EXPECT_LE(largest_difference(rows.values.view({2, count, 5}), at::linear(patches, bank.project->weight, bank.project->bias)), 1e-5);
  }
  TapeBankConfig config;
  config.patch = 10;
  EXPECT_THAT(error_of([&] { TapeBank bank(config, images(9, 12), 5); }), HasSubstr("bank \"input\": expected patch at most 9, got 10"));
}

TEST(TapeBankTest, Learnable) {
  TapeBankConfig config;
  config.kind = "learnable";
  config.rows = 7;
  TapeBank bank(config, symbols(), 5);
  const BankRows rows = bank.forward(sequences({{1}, {}}), {});
  EXPECT_EQ(rows.layout, nullptr);
  EXPECT_EQ(rows.rows_of(1), 7);
  EXPECT_EQ(rows.values.sizes(), (at::IntArrayRef{7, 5}));
}

TEST(HeadTest, PoolingAndNorm) {
  torch::NoGradGuard no_grad;
  const std::vector<Kind> kinds = {Kind::kClass, Kind::kInput, Kind::kTape, Kind::kClass, Kind::kInput};
  const PackedTokens tokens = testing::random_pack({3, 2}, 5, 1, kinds);
  for (const char* pooling : {"token", "gap"}) {
    for (const char* norm : {"before_pooling", "after_pooling"}) {
      Head head({pooling, norm, 0}, 5, 3);
      testing::perturb(head, 2, 0.5);
      const bool before = std::string(norm) == "before_pooling", token = std::string(pooling) == "token";
      const torch::Tensor values = before ? head.norm->forward(tokens.values) : tokens.values;
      torch::Tensor pooled = token ? torch::stack({values[0], values[3]}) : torch::stack({values.slice(0, 1, 3).mean(0), values[4]});
      if (!before) pooled = head.norm->forward(pooled);
      const torch::Tensor expected = at::linear(pooled, head.classifier->weight, head.classifier->bias);
      torch::Tensor features;
      EXPECT_LE(largest_difference(head.forward(tokens, {}, &features), expected), 1e-6) << pooling << norm;
      EXPECT_LE(largest_difference(head.forward(tokens, {}), expected), 1e-6) << pooling << norm;
      EXPECT_LE(largest_difference(features, values), 1e-6);
    }
  }
}

TEST(HeadTest, StartsAtItsBias) {
  Head head({"gap", "before_pooling", -6.9}, 5, 3);
  at::Generator generator = parameter_generator(1, 0);
  head.initialize(generator);
  EXPECT_LE(largest_difference(head.forward(testing::random_pack({2, 1}, 5, 1), {}), torch::full({2, 3}, -6.9)), 1e-6);
}

TEST(StemTest, RandomStartsMoveSequencesWholeAndOnlyWhileTraining) {
  torch::NoGradGuard no_grad;
  StemConfig config;
  config.class_token = true;
  config.position_start = "random";
  const auto stem = stem_of(config, symbols(9));
  const Batch batch = sequences({{0, 0, 0}, {1, 1, 1, 1, 1, 1, 1, 1, 1}});
  ForwardContext context;
  context.training = true;
  std::set<int64_t> starts;
  for (int64_t example = 0; example < 100; ++example) {
    context.examples = torch::tensor({example, example + 1000}, torch::kInt64);
    const torch::Tensor values = stem->forward(batch, context).values;
    EXPECT_LT(largest_difference(values[0], stem->class_token + stem->positions[0]), 1e-6);
    const torch::Tensor symbol = stem->symbol_weight.t()[0] + stem->bias;
    int64_t start = -1;
    for (int64_t s = 0; s <= 6; ++s) {
      if (largest_difference(values.narrow(0, 1, 3), symbol + stem->positions.narrow(0, 1 + s, 3)) < 1e-6) start = s;
    }
    ASSERT_GE(start, 0);
    starts.insert(start);
    const torch::Tensor full = stem->symbol_weight.t()[1] + stem->bias + stem->positions.narrow(0, 1, 9);  // no room to move
    EXPECT_LT(largest_difference(values.narrow(0, 5, 9), full), 1e-6);
  }
  EXPECT_EQ(starts.size(), 7u);
  context.training = false;
  config.position_start = "zero";
  const torch::Tensor resting = stem->forward(batch, context).values;
  EXPECT_LT(largest_difference(resting.narrow(0, 1, 3), stem->symbol_weight.t()[0] + stem->bias + stem->positions.narrow(0, 1, 3)), 1e-6);
}

TEST(StemTest, OwnPlacesAreRowsOfTheirAxesAndMoveApart) {
  torch::NoGradGuard no_grad;
  StemConfig config;
  config.class_token = true;
  config.position_start = "random";
  InputSpec spec = symbols(9);
  spec.axes = {4, 3};
  const auto stem = stem_of(config, spec);
  ASSERT_EQ(stem->positions.size(0), 7);
  Batch batch = sequences({{}, {0, 1, 2}, {2}});
  batch.places = torch::tensor({0, 1, -1, -1, 1, 0, 3, -1}, torch::kInt64).view({4, 2});
  ForwardContext context;
  const auto without = [&](const torch::Tensor& values) {  // what is left of symbols 0 1 2 | 2, class tokens taken away
    const torch::Tensor own = values.index_select(0, torch::tensor({2, 3, 4, 6}, torch::kInt64));
    return own - stem->symbol_weight.t().index_select(0, batch.symbols) - stem->bias;
  };
  const torch::Tensor front = stem->positions.narrow(0, 0, 4), back = stem->positions.narrow(0, 4, 3);
  const auto expected = [&](int64_t a, int64_t b) {
    return torch::stack({front[a] + back[1 + b], torch::zeros({5}), front[1 + a] + back[b], front[3]});
  };
  const torch::Tensor resting = stem->forward(batch, context).values;
  EXPECT_LT(largest_difference(without(resting), expected(0, 0)), 1e-6);
  for (const int64_t token : {0, 1, 5}) EXPECT_LT(largest_difference(resting[token], stem->class_token), 1e-6);
  context.training = true;
  std::set<std::pair<int64_t, int64_t>> starts;
  for (int64_t example = 0; example < 100; ++example) {
    context.examples = torch::tensor({example + 2000, example, example + 1000}, torch::kInt64);
    const torch::Tensor values = without(stem->forward(batch, context).values);
    for (int64_t a = 0; a < 3; ++a) {
      for (int64_t b = 0; b < 2; ++b) {
        if (largest_difference(values, expected(a, b)) < 1e-6) starts.insert({a, b});
      }
    }
  }
  EXPECT_EQ(starts.size(), 6u);
}

TEST(StemTest, OwnPlacesAreCheckedAndHaveGradients) {
  InputSpec spec = symbols(9);
  spec.axes = {4, 3};
  const auto stem = stem_of({}, spec);
  Batch batch = sequences({{0, 1}});
  EXPECT_THAT(error_of([&] { stem->forward(batch, {}); }), HasSubstr("expected places [2, 2] of the elements, got none"));
  batch.places = torch::tensor({0, 1, 3, 3}, torch::kInt64).view({2, 2});
  EXPECT_THAT(error_of([&] { stem->forward(batch, {}); }), HasSubstr("expected places of at most 2, got 3"));
  batch.places = torch::tensor({0, 1, 0, -1}, torch::kInt64).view({2, 2});
  stem->forward(batch, {}).values.sum().backward();
  EXPECT_LT(largest_difference(stem->positions.grad().sum(1), torch::tensor({10.0, 0.0, 0.0, 0.0, 0.0, 5.0, 0.0})), 1e-6);
}

TEST(StemTest, RandomStartsNeedPositions) {
  StemConfig config;
  config.position_start = "random";
  config.positions = false;
  EXPECT_THAT(error_of([&] { config.resolve(symbols()); }), HasSubstr("position_start"));
}

}  // namespace
}  // namespace adatape
