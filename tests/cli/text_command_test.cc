// Text models from the command line: training on a file, generation, published weights.
#include "adatape/core/safetensors.h"
#include "program.h"

namespace adatape {
namespace {

using testing::content_of;
using ::testing::HasSubstr;
using testing::Outcome;
using ::testing::StartsWith;

class TextCommandTest : public testing::ProgramTest {
 protected:
  TextCommandTest() {
    std::string text;
    for (int i = 0; i < 4000; ++i) text += "one " + std::to_string(i % 7) + " two, ";
    write("text.txt", text);
    write("gpt.toml", R"([task]
name = "language_modelling"
path = "text.txt"
context = 16
[model]
name = "gpt"
width = 16
heads = 2
ffn_width = 32
blocks = 1
[training]
steps = 40
batch_size = 16
learning_rate = 0.01
warmup_steps = 5
evaluate_every = 20
validation_examples = 50
[evaluation]
test_examples = 50
batch_size = 50
)");
    write("imported.toml", R"([task]
name = "language_modelling"
vocabulary = 29
[model]
name = "gpt"
width = 32
heads = 4
ffn_width = 64
blocks = 2
context = 16
norm_epsilon = 1e-6
)");
    write("imported_t5.toml", R"([task]
name = "language_modelling"
vocabulary = 23
prefix = 8
[model]
name = "t5"
width = 32
heads = 4
ffn_width = 32
blocks = 2
relative_buckets = 8
relative_max_distance = 16
)");
  }
};

constexpr char kGolden[] = ADATAPE_SOURCE_DIR "/tests/golden/";

TEST_F(TextCommandTest, TrainEvaluateGenerate) {
  const Outcome trained = run("train gpt.toml -q -o run");
  ASSERT_EQ(trained.status, 0) << trained.errors;
  EXPECT_THAT(trained.output, HasSubstr("bits per byte of an order-3 n-gram"));
  const Outcome evaluated = run("evaluate run");
  EXPECT_THAT(evaluated.output, ::testing::AllOf(HasSubstr("answers right"), HasSubstr("bits per byte ")));
  const auto row = nlohmann::json::parse(run("evaluate run --json").output);
  EXPECT_LT(row["described"]["bits per byte"].get<double>(), 7);
  EXPECT_GT(row["answer_accuracy"].get<double>(), 0.05);

  const std::string command = "generate run --prompt 'one 1' --tokens 6 --seed 3 ";
  const Outcome first = run(command);
  EXPECT_EQ(first.status, 0) << first.errors;
  EXPECT_THAT(first.output, StartsWith("one 1"));
  EXPECT_EQ(first.output.size(), 5u + 6 + 1);
  const Outcome again = run(command + "--verbose");
  EXPECT_EQ(again.output, first.output);
  EXPECT_THAT(again.errors, ::testing::AllOf(StartsWith("kernels: matrix products packed "), HasSubstr("; attention packed ")));
  // Beside another prompt it says the same, wherever it stands.
  EXPECT_THAT(run(command + "--prompt tw").output, StartsWith(first.output + "tw"));
  EXPECT_THAT(run("generate run --prompt tw --prompt 'one 1' --tokens 6 --seed 3").output, ::testing::EndsWith("\n" + first.output));
  // As much as fits: 14 symbols, of which the last is not read, after three.
  EXPECT_EQ(run("generate run --prompt one --threads 1").output.size(), 3u + 14 + 1);
  EXPECT_THAT(run("compare run -o comparison").output, HasSubstr("answers"));
  EXPECT_THAT(error_of("generate run --prompt 'longer than sixteen bytes'"), HasSubstr("at most 16 symbols"));
  EXPECT_THAT(error_of("generate run --prompt a --top-k -1"), HasSubstr("--top-k: expected 0 or more, got -1 (see"));
  EXPECT_THAT(error_of("generate run --prompt a b"), HasSubstr("unexpected argument b; for another --prompt repeat the option"));
  EXPECT_THAT(error_of("generate run --prompt a --temperature -1"), HasSubstr("--temperature"));
}

TEST_F(TextCommandTest, OnlyTextModelsGenerate) {
  ASSERT_EQ(run("train tiny.toml -q -o run --set training.steps=1").status, 0);
  EXPECT_THAT(error_of("generate run --prompt 1"), HasSubstr("expected a text model (gpt, palm, t5), got one of name \"transformer\""));
}

// An encoder would read the answers.
TEST_F(TextCommandTest, OnlyCausalModelsLearnText) {
  EXPECT_THAT(error_of("train gpt.toml -q -o run --set model.name=transformer"), HasSubstr("expected a causal model"));
  EXPECT_THAT(error_of("train gpt.toml -q -o run --set model.name=gpt2"), HasSubstr("set model.name = \"gpt\" and model.size = \"gpt2\""));
  EXPECT_FALSE(exists("run"));
}

// The model is asked at blanks, so that nothing it says after a prompt means anything.
TEST_F(TextCommandTest, WhatFillsBlanksInDoesNotGenerate) {
  write("digits.toml",
        "[task]\nname = \"algorithmic\"\nform = \"each\"\n[model]\nname = \"gpt\"\nwidth = 8\nheads = 2\nffn_width = 8\n"
        "[training]\nsteps = 1\nbatch_size = 4\nvalidation_examples = 4\n[evaluation]\ntest_examples = 4\n");
  ASSERT_EQ(run("train digits.toml -q -o run").status, 0);
  EXPECT_THAT(error_of("generate run --prompt 123"), HasSubstr("expected task.form = \"decoder\""));
}

TEST_F(TextCommandTest, ImportsGpt2) {
  const std::string folder = std::string(kGolden) + "text_gpt/";
  const Outcome imported = run("import --from transformers imported.toml " + folder + "weights.safetensors --output model");
  ASSERT_EQ(imported.status, 0) << imported.errors;
  const NamedTensors inputs = read_safetensors(folder + "inputs.safetensors").tensors;
  const int64_t length = inputs.at("lengths")[0].item<int64_t>();
  write_safetensors(path("in.safetensors"), {{"symbols", inputs.at("ids").narrow(0, 0, 1).narrow(1, 0, length).contiguous()}});
  const Outcome forward = run("forward model --input in.safetensors --output out.safetensors");
  ASSERT_EQ(forward.status, 0) << forward.errors;
  const at::Tensor expected = read_safetensors(folder + "expected.safetensors").tensors.at("logits")[0].narrow(0, 0, length);
  write_safetensors(path("more.safetensors"), {{"symbols", at::ones({1, 3}, at::kLong)}, {"decoder_ids", at::ones({1, 3}, at::kLong)}});
  EXPECT_THAT(
      error_of("forward model --input more.safetensors --output none.safetensors --threads 1"),
      HasSubstr("more.safetensors: expected no other tensors than this model reads (cotangent, offsets, symbols), got `decoder_ids`"));
  EXPECT_LE((read_safetensors(path("out.safetensors")).tensors.at("logits") - expected).abs().max().item<double>(), 1e-4);
  EXPECT_THAT(error_of("generate model --prompt Once"), HasSubstr("expected task.vocabulary = 256 to read bytes, got 29"));
  EXPECT_THAT(error_of("import --from transformers imported.toml " + std::string(kGolden) + "text_t5/weights.safetensors --output other"),
              HasSubstr("is not a name of transformers' GPT2LMHeadModel"));
  EXPECT_THAT(error_of("import --from transformers imported.toml " + folder + "weights.safetensors --set model.blocks=3 --output other"),
              HasSubstr("no tensor in the weights gives decoder.block_2"));
}

TEST_F(TextCommandTest, ImportsT5) {
  const std::string folder = std::string(kGolden) + "text_t5/";
  const Outcome imported = run("import --from transformers imported_t5.toml " + folder + "weights.safetensors --output model");
  ASSERT_EQ(imported.status, 0) << imported.errors;
  const NamedTensors inputs = read_safetensors(folder + "inputs.safetensors").tensors;
  const int64_t length = inputs.at("encoder_lengths")[0].item<int64_t>(), answers = inputs.at("decoder_lengths")[0].item<int64_t>();
  const auto first = [&](const char* name, int64_t count) { return inputs.at(name).narrow(0, 0, 1).narrow(1, 0, count).contiguous(); };
  write_safetensors(path("in.safetensors"), {{"symbols", first("encoder_ids", length)}, {"decoder_ids", first("decoder_ids", answers)}});
  const Outcome forward = run("forward model --input in.safetensors --output out.safetensors --verbose");
  ASSERT_EQ(forward.status, 0) << forward.errors;
  EXPECT_THAT(forward.errors, HasSubstr("adatape: attention: not on the fast path: positions are relative"));
  const at::Tensor expected = read_safetensors(folder + "expected.safetensors").tensors.at("logits")[0].narrow(0, 0, answers);
  EXPECT_LE((read_safetensors(path("out.safetensors")).tensors.at("logits") - expected).abs().max().item<double>(), 1e-4);
  write_safetensors(path("in.safetensors"), {{"symbols", first("encoder_ids", length)}});
  EXPECT_THAT(error_of("forward model --input in.safetensors --output out.safetensors"), HasSubstr("`decoder_symbols` or `decoder_ids`"));
}

}  // namespace
}  // namespace adatape
