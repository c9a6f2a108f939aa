#include "adatape/core/safetensors.h"
#include "program.h"

namespace adatape {
namespace {

using ::testing::AllOf;
using testing::content_of;
using ::testing::HasSubstr;
using testing::Outcome;

namespace fs = std::filesystem;

class ForwardCommandTest : public testing::ProgramTest {
 protected:
  ForwardCommandTest() {
    write("reader.toml", R"([task]
name = "parity"
length = 6
[model]
name = "adatape"
width = 8
heads = 2
ffn_width = 8
blocks = 1
[[model.readers]]
before_block = 0
max_tape_tokens = 3
threshold = 1.5
)");
  }
  // A model folder without training.
  void make_model(const std::string& name = "model") {
    ASSERT_EQ(
        run("train reader.toml -q --set training.steps=1 --set training.validation_examples=16 --set evaluation.test_examples=16 -o " +
            name)
            .status,
        0);
  }
  void input(const NamedTensors& tensors) const { write_safetensors(path("in.safetensors"), tensors); }
  NamedTensors output() const { return read_safetensors(path("out.safetensors")).tensors; }
  std::string command(const std::string& more = "") const {
    return "forward model --input in.safetensors --output out.safetensors " + more;
  }
};

at::Tensor ids(std::vector<int64_t> values) { return at::tensor(values, at::kLong); }

TEST_F(ForwardCommandTest, SymbolsPackedAndNot) {
  make_model();
  const at::Tensor symbols = ids({0, 1, 2, 2, 1, 0, 1, 1, 1, 0, 2, 2}).view({2, 6});
  input({{"symbols", symbols}});
  const Outcome outcome = run(command());
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("tensors of 2 examples"));
  const NamedTensors square = output();
  EXPECT_EQ(square.at("logits").sizes(), (at::IntArrayRef{2, 2}));
  EXPECT_EQ(square.at("tape_indices").sizes(), (at::IntArrayRef{2, 3, 2}));
  EXPECT_EQ(square.at("tape_tokens").sizes(), (at::IntArrayRef{2, 3, 8}));
  EXPECT_EQ(square.at("tape_length").scalar_type(), at::kInt);
  EXPECT_EQ(square.count("grad/head.classifier.bias"), 0u);

  input({{"token_ids", symbols.to(at::kInt)}});
  ASSERT_EQ(run(command()).status, 0);
  EXPECT_TRUE(output().at("logits").equal(square.at("logits")));

  input({{"symbols", symbols.flatten()}, {"offsets", ids({0, 6, 12})}});
  ASSERT_EQ(run(command()).status, 0);
  EXPECT_TRUE(output().at("logits").equal(square.at("logits")));

  // Ragged, an example without symbols among them.
  input({{"symbols", at::cat({symbols.flatten(), ids({1, 2})})}, {"offsets", ids({0, 6, 6, 12, 14})}});
  ASSERT_EQ(run(command()).status, 0);
  const NamedTensors ragged = output();
  EXPECT_TRUE(at::isfinite(ragged.at("logits")).all().item<bool>());
  EXPECT_LE((ragged.at("logits")[0] - square.at("logits")[0]).abs().max().item<double>(), 1e-6);
  EXPECT_LE((ragged.at("logits")[2] - square.at("logits")[1]).abs().max().item<double>(), 1e-6);
  EXPECT_EQ(ragged.at("tape_length")[1].item<int>(), 0);

  input({{"symbols", symbols.slice(0, 0, 0)}});
  ASSERT_EQ(run(command()).status, 0);
  EXPECT_EQ(output().at("logits").size(0), 0);
}

TEST_F(ForwardCommandTest, VectorsPackedAndNot) {
  write("reader.toml",
        "[task]\nname = \"parity\"\nlength = 6\nform = \"vector\"\n[model]\nname = \"transformer\"\nwidth = 8\nheads = 2\nffn_width = 8\n");
  make_model();
  const at::Tensor vectors = at::arange(12, at::kFloat).view({2, 1, 6}) / 6;
  input({{"vectors", vectors}});
  ASSERT_EQ(run(command()).status, 0);
  const at::Tensor logits = output().at("logits");
  EXPECT_EQ(logits.sizes(), (at::IntArrayRef{2, 2}));
  input({{"vectors", vectors.view({2, 6})}, {"offsets", ids({0, 1, 2})}});
  ASSERT_EQ(run(command()).status, 0);
  EXPECT_TRUE(output().at("logits").equal(logits));
  const auto error = [&](const NamedTensors& tensors) {
    input(tensors);
    return error_of(command());
  };
  EXPECT_THAT(error({{"symbols", ids({0, 1})}}),
              HasSubstr("expected `vectors` [B, L, D], or packed [total, D] with `offsets`, found none"));
  EXPECT_THAT(error({{"vectors", vectors.view({2, 6})}}), HasSubstr("packed vectors need `offsets`"));
  EXPECT_THAT(error({{"vectors", vectors.view({2, 6})}, {"offsets", ids({0, 3})}}),
              HasSubstr("`offsets` that rise from 0 to the 2 vectors"));
  EXPECT_THAT(error({{"vectors", vectors.view({4, 1, 3})}}), HasSubstr("expected vectors [4, 6], got [4, 3]"));
  EXPECT_THAT(error({{"vectors", vectors / 0}}), HasSubstr("expected finite numbers in `vectors`"));
}

TEST_F(ForwardCommandTest, Gradients) {
  make_model();
  const at::Tensor symbols = ids({0, 1, 2, 2, 1, 0, 1, 1, 1, 0, 2, 2}).view({2, 6});
  input({{"symbols", symbols}});
  EXPECT_THAT(error_of(command("--gradients")), HasSubstr("--gradients expects `cotangent`"));
  input({{"symbols", symbols}, {"cotangent", at::ones({2, 3})}});
  EXPECT_THAT(error_of(command("--gradients")), AllOf(HasSubstr("expected the shape of the logits [2, 2]"), HasSubstr("[2, 3]")));
  EXPECT_FALSE(exists("out.safetensors"));
  input({{"symbols", symbols}, {"cotangent", at::tensor({1.f, 2.f, 3.f, 5.f}).view({2, 2})}});
  ASSERT_EQ(run(command("--gradients")).status, 0);
  EXPECT_TRUE(at::allclose(output().at("grad/head.classifier.bias"), at::tensor({4.f, 7.f})));
}

TEST_F(ForwardCommandTest, SettingsOfListsAndPlacesOfArguments) {
  make_model();
  input({{"symbols", at::zeros({1, 6}, at::kLong)}});
  ASSERT_EQ(run(command("--set model.readers.0.threshold=3")).status, 0);
  EXPECT_EQ(output().at("tape_length")[0].item<int>(), 3);
  EXPECT_EQ(output().at("tape_indices").size(2), 2);  // K stays
  EXPECT_EQ(run("forward --set model.readers.0.threshold=3 model --input in.safetensors --output out.safetensors").status, 0);
  EXPECT_THAT(error_of(command("--set model.readers.0.threshold=4")),
              HasSubstr("model.readers.0.threshold: expected at most max_tape_tokens = 3"));
  EXPECT_THAT(error_of(command("--set model.readers.3.threshold=1")), HasSubstr("readers"));
}

TEST_F(ForwardCommandTest, BadInputsAreOneLine) {
  make_model();
  EXPECT_THAT(error_of(command()), HasSubstr("in.safetensors"));  // not there
  const at::Tensor good = at::zeros({2, 6}, at::kLong);
  const auto error = [&](const NamedTensors& tensors) {
    input(tensors);
    return error_of(command());
  };
  EXPECT_THAT(error({{"x", good}}), HasSubstr("expected `symbols` or `token_ids`"));
  EXPECT_THAT(error({{"symbols", good.to(at::kFloat)}}), HasSubstr("expected integers in `symbols`"));
  EXPECT_THAT(error({{"symbols", good + 3}}), HasSubstr("expected symbols 0 .. 2, got 3 .. 3"));
  EXPECT_THAT(error({{"symbols", good - 1}}), HasSubstr("expected symbols 0 .. 2, got -1 .. -1"));
  EXPECT_THAT(error({{"symbols", at::zeros({2, 9}, at::kLong)}}), HasSubstr("at most 6"));
  EXPECT_THAT(error({{"symbols", good.flatten()}}), HasSubstr("packed symbols need `offsets`"));
  EXPECT_THAT(error({{"symbols", good.view({2, 3, 2})}}), HasSubstr("expected `symbols` [B, L], got [2, 3, 2]"));
  for (const std::vector<int64_t>& offsets : std::vector<std::vector<int64_t>>{{0, 5}, {1, 12}, {0, 13, 12}, {0, -1, 12}, {12}}) {
    EXPECT_THAT(error({{"symbols", good.flatten()}, {"offsets", ids(offsets)}}), HasSubstr("`offsets`"));
  }
  EXPECT_THAT(error({{"symbols", good.flatten()}, {"offsets", at::zeros({0}, at::kLong)}}), HasSubstr("`offsets`"));
  EXPECT_THAT(error({{"symbols", good.flatten()}, {"offsets", at::tensor({0.f, 6.5f, 12.f})}}),
              HasSubstr("expected integers in `offsets`"));
  write("in.safetensors", "nothing of the kind");
  EXPECT_THAT(error_of(command()), HasSubstr("in.safetensors"));
  input({{"symbols", good}});
  EXPECT_THAT(error_of("forward nowhere --input in.safetensors --output out.safetensors"), HasSubstr("nowhere"));
  EXPECT_THAT(error_of("forward model --input in.safetensors --output /dev/full"), HasSubstr("/dev/full"));
  EXPECT_THAT(error_of("forward model --input in.safetensors --output /proc/out.safetensors"), HasSubstr("/proc/out.safetensors"));
  EXPECT_THAT(error_of("forward model --input in.safetensors --output no/where.safetensors"), HasSubstr("no/where.safetensors"));
  EXPECT_THAT(error_of(command("--device gpu")), HasSubstr("gpu"));
  EXPECT_THAT(error_of("forward model --input in.safetensors"), HasSubstr("--output"));
  EXPECT_FALSE(exists("out.safetensors"));
}

TEST_F(ForwardCommandTest, Images) {
  // Images of a task whose files are not there: forward needs none.
  write("images.toml", R"([task]
name = "image_classification"
[model]
name = "vit"
width = 8
heads = 2
ffn_width = 8
blocks = 1
patch = 14
)");
  const auto config = [&] { return content_of(path("images.toml")); };
  fs::create_directories(path("model"));
  write("model/config.toml", config());
  const auto zeros = [](std::vector<int64_t> shape) { return at::full(shape, 0.1); };
  NamedTensors weights = {{"stem.patch_weight", zeros({8, 1, 14, 14})},
                          {"stem.bias", zeros({8})},
                          {"stem.positions", zeros({4, 8})},
                          {"head.norm.weight", zeros({8})},
                          {"head.norm.bias", zeros({8})},
                          {"head.classifier.weight", zeros({10, 8})},
                          {"head.classifier.bias", zeros({10})}};
  for (const std::string norm : {"attention_norm", "feed_forward_norm"}) {
    for (const std::string leaf : {".weight", ".bias"}) weights["block_0." + norm + leaf] = zeros({8});
  }
  for (const std::string linear : {"output", "feed_forward.expand", "feed_forward.contract"}) {
    weights["block_0." + linear + ".weight"] = zeros({8, 8});
    weights["block_0." + linear + ".bias"] = zeros({8});
  }
  weights["block_0.qkv.weight"] = zeros({24, 8});
  weights["block_0.qkv.bias"] = zeros({24});
  write_safetensors(path("model/model.safetensors"), weights);

  input({{"images", at::full({3, 1, 28, 28}, 0.5)}});
  const Outcome outcome = run(command());
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_EQ(output().at("logits").sizes(), (at::IntArrayRef{3, 10}));
  EXPECT_EQ(output().at("features").sizes(), (at::IntArrayRef{3, 4, 8}));
  at::Tensor broken = at::zeros({1, 1, 28, 28});
  broken[0][0][3][3] = NAN;
  input({{"images", broken}});
  EXPECT_THAT(error_of(command()), HasSubstr("expected finite numbers in `images`"));
  input({{"images", at::zeros({1, 1, 28, 27})}});
  EXPECT_THAT(error_of(command()), HasSubstr("expected images [B, 1, 28, 28], got [1, 1, 28, 27]"));
  input({{"images", at::zeros({28, 28})}});
  EXPECT_THAT(error_of(command()), HasSubstr("got [28, 28]"));
  input({{"symbols", at::zeros({1, 2}, at::kLong)}});
  EXPECT_THAT(error_of(command()), HasSubstr("expected `images` [B, 1, 28, 28]"));
}

}  // namespace
}  // namespace adatape
