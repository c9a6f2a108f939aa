#include "adatape/core/safetensors.h"
#include "program.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::Outcome;

constexpr char kGoldenRoot[] = ADATAPE_SOURCE_DIR "/tests/golden/";

class VerifyCommandTest : public testing::ProgramTest {
 protected:
  std::string copy(const std::string& name) const {
    fs::copy(kGoldenRoot + name, path(name));
    return name;
  }
};

TEST_F(VerifyCommandTest, PassesAndSaysWhatItCompared) {
  const Outcome outcome = run(std::string("verify ") + kGoldenRoot + "vit_timm " + kGoldenRoot + "tape_reader");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("vit_timm\n"), HasSubstr("ok      logits"), HasSubstr("ok      grad/cls_token"),
                                    HasSubstr("2 of 2 compared cases passed")));
}

TEST_F(VerifyCommandTest, AFailureIsStatusOne) {
  const std::string name = copy("vit_timm_gap");
  NamedTensors expected = read_safetensors(path(name + "/expected.safetensors")).tensors;
  expected["logits"] += 1e-3;
  expected["more\x1b[31m"] = at::zeros({1});
  write_safetensors(path(name + "/expected.safetensors"), expected);
  const Outcome outcome = run("verify " + name + " " + kGoldenRoot + "vit_timm");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("FAILED  logits"), HasSubstr("FAILED  more\\x1b[31m "), HasSubstr("not produced"),
                                    HasSubstr("1 of 2 compared cases passed")));
}

TEST_F(VerifyCommandTest, NothingToCompareIsAFailure) {
  const std::string name = copy("vit_timm");
  write_safetensors(path(name + "/expected.safetensors"), {});
  const Outcome outcome = run("verify " + name);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.output,
              AllOf(HasSubstr("FAILED  expected.safetensors holds no tensor to compare"), HasSubstr("0 of 1 compared cases passed")));
}

TEST_F(VerifyCommandTest, OutputWithoutExpectations) {
  const std::string name = copy("adatape_two_tape_layers");
  fs::remove(path(name + "/expected.safetensors"));
  const Outcome outcome = run("verify " + name + " --output out.safetensors");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, HasSubstr("not compared"));
  const NamedTensors written = read_safetensors(path("out.safetensors")).tensors;
  for (const auto& [key, expected] : read_safetensors(std::string(kGoldenRoot) + name + "/expected.safetensors").tensors) {
    if (key.rfind("published/", 0) == 0) continue;
    ASSERT_EQ(written.count(key), 1u) << key;
    EXPECT_TRUE(at::allclose(written.at(key).to(at::kFloat), expected.to(at::kFloat), 1e-4, 1e-4)) << key;
  }
}

TEST_F(VerifyCommandTest, BadCasesAreOneLine) {
  EXPECT_THAT(error_of("verify nowhere"), HasSubstr("nowhere: expected a case folder"));
  EXPECT_THAT(error_of("verify"), HasSubstr("cases is required"));
  EXPECT_THAT(error_of(std::string("verify ") + kGoldenRoot + "vit_timm " + kGoldenRoot + "tape_reader --output x.safetensors"),
              HasSubstr("--output takes the tensors of one case"));
  const std::string name = copy("vit_timm");
  write(name + "/case.json", "{");
  EXPECT_THAT(error_of("verify " + name), HasSubstr("case.json"));
}

class ImportCommandTest : public testing::ProgramTest {
 protected:
  ImportCommandTest() {
    // adatape_parity_flat of the golden cases.
    write("flat.toml", R"([task]
name = "parity"
length = 32
[model]
name = "adatape"
input = "flat"
width = 24
heads = 4
ffn_width = 32
blocks = 2
tape_ffn_width = 0
[[model.readers]]
before_block = 0
max_tape_tokens = 6
threshold = 2
mlp_width = 16
[evaluation]
test_examples = 50
)");
  }
  const std::string case_ = std::string(kGoldenRoot) + "adatape_parity_flat/";
};

TEST_F(ImportCommandTest, GoldenLogitsFromBothFormats) {
  const NamedTensors expected = read_safetensors(case_ + "expected.safetensors").tensors;
  const NamedTensors inputs = read_safetensors(case_ + "inputs.safetensors").tensors;
  const at::Tensor symbols = inputs.count("symbols_one_hot") ? inputs.at("symbols_one_hot").argmax(-1) : inputs.at("symbols").to(at::kLong);
  write_safetensors(path("in.safetensors"), {{"symbols", symbols}});
  for (const std::string file : {"checkpoint.msgpack", "weights.safetensors"}) {
    const std::string model = "from_" + file.substr(0, 5);
    const Outcome outcome = run("import --from scenic flat.toml " + case_ + file + " --output " + model);
    ASSERT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.output, HasSubstr(model + ": adatape with "));
    ASSERT_EQ(run("forward " + model + " --input in.safetensors --output out.safetensors").status, 0);
    const NamedTensors got = read_safetensors(path("out.safetensors")).tensors;
    EXPECT_LE((got.at("logits") - expected.at("logits")).abs().max().item<double>(),
              1e-5 * std::max(1.0, expected.at("logits").abs().max().item<double>()));
    EXPECT_TRUE(got.at("tape_length").equal(expected.at("tape_length")));
    const Outcome measured = run("evaluate " + model + " --json --batch-size 1");
    ASSERT_EQ(measured.status, 0) << measured.errors;
    const nlohmann::json one = nlohmann::json::parse(measured.output),
                         many = nlohmann::json::parse(run("evaluate " + model + " --json").output);
    EXPECT_EQ(one["accuracy"], many["accuracy"]);
    EXPECT_EQ(one["flops"], many["flops"]);
    EXPECT_NEAR(one["loss"].get<double>(), many["loss"].get<double>(), 1e-5);
  }
}

TEST_F(ImportCommandTest, TheRecordIsTheCommandAsTyped) {
  const std::string command = "import --from scenic flat.toml " + case_ + "weights.safetensors --set evaluation.test_examples=40 --output ";
  const auto recorded = [&](const std::string& folder) {
    const Outcome outcome = run(command + "'" + folder + "'");
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    return nlohmann::json::parse(testing::content_of(path(folder + "/run.json")))["command"].get<std::string>();
  };
  EXPECT_EQ(recorded("made"), "adatape " + command + "made");
  EXPECT_THAT(recorded("gro\xdf"), HasSubstr("gro\xef\xbf\xbd"));  // a path may be any bytes, JSON may not
}

TEST_F(ImportCommandTest, TrainingDoesNotOverwriteWhatWasImported) {
  ASSERT_EQ(run("import --from scenic flat.toml " + case_ + "weights.safetensors --output made").status, 0);
  const std::string weights = testing::content_of(path("made/model.safetensors"));
  EXPECT_THAT(error_of("train --output made --resume"),
              AllOf(HasSubstr("made: expected a checkpoint to go on from, found model.safetensors alone"), HasSubstr("another --output")));
  EXPECT_THAT(error_of("train flat.toml --output made"), HasSubstr("made: holds a model already; choose another --output"));
  EXPECT_THAT(error_of("compare made --output out"),
              HasSubstr("got 0 unfinished and 1 of a model alone, which has no run to compare; `adatape evaluate MODEL` measures"));
  EXPECT_EQ(testing::content_of(path("made/model.safetensors")), weights);
}

TEST_F(ImportCommandTest, BadImportsAreOneLineAndLeaveNothing) {
  const std::string weights = case_ + "weights.safetensors";
  const auto error = [&](const std::string& arguments) { return error_of("import --from scenic " + arguments + " --output made"); };
  EXPECT_THAT(error("flat.toml nowhere.msgpack"), HasSubstr("nowhere.msgpack"));
  EXPECT_THAT(error("nowhere.toml " + weights), HasSubstr("nowhere.toml"));
  EXPECT_THAT(error("--set model.width=32 flat.toml " + weights), HasSubstr("make the configuration match the weights"));
  EXPECT_THAT(error("flat.toml " + weights + " --set model.blocks=1"), HasSubstr("this configuration has no block_1."));
  EXPECT_THAT(error("flat.toml " + weights + " --set model.blocks=3"), HasSubstr("no tensor in the weights gives block_2."));
  EXPECT_THAT(error("flat.toml " + weights + " --set task.length=16"), HasSubstr("tensor embedding/kernel: "));
  EXPECT_THAT(error_of("import --from torch flat.toml " + weights + " --output made"), HasSubstr("--from"));
  NamedTensors changed = read_safetensors(weights).tensors;
  changed.at("output_projection/bias")[0] = NAN;
  write_safetensors(path("nan.safetensors"), changed);
  EXPECT_THAT(error("flat.toml nan.safetensors"), HasSubstr("finite"));
  write("cut.msgpack", testing::content_of(case_ + "checkpoint.msgpack").substr(0, 3000));
  EXPECT_THAT(error("flat.toml cut.msgpack"), HasSubstr("cut.msgpack"));
  EXPECT_FALSE(exists("made"));
  fs::create_directories(path("made"));
  EXPECT_THAT(error("flat.toml " + weights), HasSubstr("made: expected a new folder"));
}

}  // namespace
}  // namespace adatape
