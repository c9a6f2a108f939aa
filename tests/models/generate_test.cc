#include "adatape/models/generate.h"

#include "model_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using testing::answering_each;
using testing::symbol_spec;

std::vector<testing::ModelCase> text_cases() {
  std::vector<testing::ModelCase> cases;
  for (const testing::ModelCase& one : testing::model_cases()) {
    if (one.model == "gpt" || one.model == "palm" || one.model == "t5") cases.push_back(one);
  }
  return cases;
}

class EveryTextModel : public ::testing::TestWithParam<testing::ModelCase> {};

// All at once, and one symbol after another with the cache: the same logits.
TEST_P(EveryTextModel, CachedEqualsUncached) {
  torch::NoGradGuard no_grad;
  const auto model = std::dynamic_pointer_cast<TextModel>(GetParam().make());
  ASSERT_NE(model, nullptr);
  const Batch batch = GetParam().batch();
  const torch::Tensor whole = model->forward(batch, {}).logits;
  const std::vector<int64_t>& offsets = batch.answer_offsets();
  const torch::Tensor& symbols = model->encoder_decoder() ? batch.decoder_symbols : batch.symbols;
  DecodingState state = model->begin(batch);
  for (int64_t place = 0; place < 9; ++place) {
    std::vector<int64_t> rows, lengths;
    for (int64_t b = 0; b < batch.size(); ++b) {
      const bool there = offsets[b] + place < offsets[b + 1];
      lengths.push_back(there);
      if (there) rows.push_back(offsets[b] + place);
    }
    if (rows.empty()) break;
    const torch::Tensor index = torch::tensor(rows, torch::kInt64);
    const torch::Tensor logits = model->decode(symbols.index_select(0, index),
                                               std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, torch::kCPU), state);
    const torch::Tensor expected = whole.index_select(0, index);
    EXPECT_LE((logits - expected).abs().max().item<double>(), 2e-6 * std::max(1.0, expected.abs().max().item<double>())) << place;
  }
}

TEST_P(EveryTextModel, PromptsInABatchEqualAlone) {
  const auto model = std::dynamic_pointer_cast<TextModel>(GetParam().make());
  const std::vector<std::vector<int64_t>> prompts = {{1, 2, 3}, {0}, {3, 3}};
  GenerateOptions options;
  options.symbols = 5;
  options.top_k = 3;
  options.stop = 2;
  const auto together = generate(*model, prompts, options, {7, 8, 9});
  for (size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(generate(*model, {prompts[i]}, options, {7 + i}).front(), together[i]) << i;
  options.seed = 2;
  EXPECT_NE(generate(*model, prompts, options, {7, 8, 9}), together);
}

// Without identities a prompt has the draws of its symbols; given again, draws of its own.
TEST_P(EveryTextModel, WhatStandsBesideAPromptChangesNothing) {
  const auto model = std::dynamic_pointer_cast<TextModel>(GetParam().make());
  GenerateOptions options;
  options.symbols = 5;
  options.temperature = 50;  // as good as uniform: equal answers are equal draws
  const std::vector<int64_t> prompt = {1, 2, 3}, other = {3, 3};
  const auto alone = generate(*model, {prompt}, options).front();
  const auto beside = generate(*model, {other, prompt, prompt}, options);
  EXPECT_EQ(beside[1], alone);
  EXPECT_NE(beside[2], alone);
  EXPECT_NE(beside[0], alone);
  EXPECT_EQ(generate(*model, {prompt, other, prompt}, options), (std::vector<std::vector<int64_t>>{alone, beside[0], beside[2]}));
}

// Greedy answers are what forward finds likeliest, symbol by symbol.
TEST_P(EveryTextModel, GreedyFollowsTheLogits) {
  torch::NoGradGuard no_grad;
  const auto model = std::dynamic_pointer_cast<TextModel>(GetParam().make());
  GenerateOptions options;
  options.symbols = 4;
  options.temperature = 0;
  std::vector<std::vector<int64_t>> told;
  const auto answer = generate(*model, {{1, 2}}, options, {}, [&](const std::vector<int64_t>& newest) { told.push_back(newest); }).front();
  ASSERT_EQ(answer.size(), 4u);
  ASSERT_EQ(told.size(), 4u);
  std::vector<int64_t> read = model->encoder_decoder() ? std::vector<int64_t>{0} : std::vector<int64_t>{1, 2};
  for (size_t i = 0; i < answer.size(); ++i) {
    Batch batch;
    batch.symbols = torch::tensor(model->encoder_decoder() ? std::vector<int64_t>{1, 2} : read, torch::kInt64);
    batch.offsets = {0, batch.symbols.numel()};
    if (model->encoder_decoder()) {
      batch.decoder_symbols = torch::tensor(read, torch::kInt64);
      batch.decoder_offsets = {0, batch.decoder_symbols.numel()};
    }
    EXPECT_EQ(model->forward(batch, {}).logits[-1].argmax().item<int64_t>(), answer[i]) << i;
    EXPECT_EQ(told[i].front(), answer[i]);
    read.push_back(answer[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(All, EveryTextModel, ::testing::ValuesIn(text_cases()), [](const auto& which) { return which.param.label; });

TEST(GenerateTest, RefusesWhatCannotBe) {
  const auto model = testing::make_model("gpt", "width = 8\nheads = 2\nffn_width = 8\n", answering_each(symbol_spec(9, 4)));
  auto& text = dynamic_cast<TextModel&>(*model);
  GenerateOptions options;
  options.symbols = 8;
  EXPECT_THAT(error_of([&] {
                generate(text, {{1, 2, 3}}, options);
              }),
              ::testing::HasSubstr("expected at most 7 symbols after a prompt of 3 (the model has 9 learned positions), got 8"));
  EXPECT_THAT(error_of([&] { generate(text, {std::vector<int64_t>(10, 1)}, options); }),
              ::testing::HasSubstr("prompts of at most 9 symbols (the model's learned positions), got one of 10"));
  EXPECT_THAT(error_of([&] { generate(text, {{}}, options); }), ::testing::HasSubstr("at least one symbol"));
  EXPECT_THAT(error_of([&] { generate(text, {{9}}, options); }), ::testing::HasSubstr("expected symbols 0 .. 3, got 9"));
  options.symbols = 0;
  EXPECT_TRUE(generate(text, {{1}}, options).front().empty());
}

// Nothing asked for: as much as the positions allow, for each prompt by itself. The last symbol is not read, so it needs no position.
TEST(GenerateTest, AnswersAsMuchAsFits) {
  const auto model = testing::make_model("gpt", "width = 8\nheads = 2\nffn_width = 8\n", answering_each(symbol_spec(9, 4)));
  auto& text = dynamic_cast<TextModel&>(*model);
  const auto answers = generate(text, {{1, 2, 3}, std::vector<int64_t>(9, 1), {1}}, {});
  EXPECT_EQ(answers[0].size(), 7u);
  EXPECT_EQ(answers[1].size(), 1u);
  EXPECT_EQ(answers[2].size(), 9u);
  GenerateOptions options;
  options.symbols = 7;
  EXPECT_EQ(generate(text, {{1, 2, 3}}, options).front(), answers[0]);

  InputSpec two = answering_each(symbol_spec(9, 4));
  two.decoder_length = 5;
  const auto t5 = testing::make_model("t5", "width = 8\nheads = 2\nffn_width = 8\npositions = \"learned\"\n", two);
  EXPECT_EQ(generate(dynamic_cast<TextModel&>(*t5), {{1, 2, 3}}, {}).front().size(), 9u);
  options.symbols = 10;
  EXPECT_THAT(error_of([&] { generate(dynamic_cast<TextModel&>(*t5), {{1, 2, 3}}, options); }), ::testing::HasSubstr("at most 9 symbols"));
  const auto endless = testing::make_model("palm", "width = 8\nheads = 2\nffn_width = 8\n", answering_each(symbol_spec(9, 4)));
  EXPECT_EQ(generate(dynamic_cast<TextModel&>(*endless), {{1}}, {}).front().size(), 100u);
}

TEST(TextSizesTest, ASizeSetsWhatTheFileDoesNot) {
  InputSpec spec = answering_each(symbol_spec(9, 4));
  const auto entry = find_model("gpt");
  const auto config = entry.make_config();
  ConfigDocument::from_text("name = \"gpt\"\nsize = \"gpt2\"\nblocks = 3\n").read(*config);
  config->resolve(spec);
  auto& text = dynamic_cast<TextConfig&>(*config);
  EXPECT_EQ(text.width, 768);
  EXPECT_EQ(text.blocks, 3);
  EXPECT_EQ(*text.context, 1024);
  // Written and read back it is the same.
  const std::string written = to_toml(text);
  const auto again = entry.make_config();
  ConfigDocument::from_text(written).read(*again);
  EXPECT_EQ(to_toml(*again), written);
  EXPECT_EQ(dynamic_cast<TextConfig&>(*again).blocks, 3);
  EXPECT_THAT(entry.sizes, ::testing::HasSubstr("gpt3_175b (175B)"));
  EXPECT_THAT(error_of([&] { ConfigDocument::from_text("name = \"gpt\"\nsize = \"gpt4\"\n").read(*config); }),
              ::testing::HasSubstr("gpt4"));
}

TEST(TextConfigTest, WhatDoesNotFitIsNamed) {
  const InputSpec each = answering_each(symbol_spec(9, 4));
  const auto error = [&](const std::string& name, const std::string& keys, const InputSpec& spec) {
    return error_of([&] { testing::make_model(name, keys, spec); });
  };
  EXPECT_THAT(error("gpt", "", symbol_spec(9, 4)), ::testing::HasSubstr("an answer for each element of a sequence"));
  EXPECT_THAT(error("gpt", "", testing::image_spec()), ::testing::HasSubstr("reads symbols"));
  EXPECT_THAT(error("gpt2", "", each), ::testing::HasSubstr("set model.name = \"gpt\" and model.size = \"gpt2\""));
  EXPECT_THAT(error("t5", "", each), ::testing::HasSubstr("reads two sequences, the task gives one"));
  EXPECT_THAT(error("gpt", "", answering_each(symbol_spec(9, 3))), ::testing::HasSubstr("as many classes as symbols, got 3 and 4"));
  EXPECT_THAT(error("gpt", "width = 10\n", each), ::testing::HasSubstr("model.heads: expected a divisor of model.width 10"));
  EXPECT_THAT(error("palm", "head_width = 3\n", each), ::testing::HasSubstr("even number with rotary positions, got 3"));
  EXPECT_THAT(error("palm", "key_value_heads = 3\n", each), ::testing::HasSubstr("model.key_value_heads"));
}

}  // namespace
}  // namespace adatape
