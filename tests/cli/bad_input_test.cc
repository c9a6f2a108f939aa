// What a careless or hostile user may give: one clear line, status 2, nothing changed.
#include <cstring>

#include "program.h"

namespace adatape {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::content_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Outcome;

class BadInputTest : public testing::ProgramTest {
 protected:
  BadInputTest() {
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
[training]
steps = 2
batch_size = 8
validation_examples = 16
[evaluation]
test_examples = 16
)");
  }
  std::string with(const std::string& assignment) const { return error_of("train reader.toml -q -o run --set " + assignment); }
  // model.safetensors with another header before the same data.
  void write_weights(const std::string& original, const std::function<void(json&)>& edit) const {
    uint64_t length = 0;
    std::memcpy(&length, original.data(), 8);
    json header = json::parse(original.substr(8, length));
    const std::string data = original.substr(8 + length);
    edit(header);
    const std::string text = header.dump();
    length = text.size();
    std::string file(8, '\0');
    std::memcpy(file.data(), &length, 8);
    write("run/model.safetensors", file + text + data);
  }
};

TEST_F(BadInputTest, Configurations) {
  EXPECT_THAT(with("model.readers.0.threshold=0"), HasSubstr("model.readers.0.threshold: expected real > 0, got 0"));
  EXPECT_THAT(with("model.readers.0.threshold=-1"), HasSubstr("got -1"));
  EXPECT_THAT(with("model.readers.0.threshold=nan"), HasSubstr("model.readers.0.threshold: expected real > 0, got nan"));
  EXPECT_THAT(with("model.readers.0.threshold=inf"), HasSubstr("model.readers.0.threshold"));
  EXPECT_THAT(with("model.readers.0.threshold=4"), HasSubstr("expected at most max_tape_tokens = 3, got 4"));
  EXPECT_THAT(with("model.readers.0.treshold=1"), HasSubstr("did you mean model.readers.0.threshold?"));
  EXPECT_THAT(with("model.readers.0.rows_per_step=0"), HasSubstr("model.readers.0.rows_per_step: expected integer in [1, "));
  EXPECT_THAT(with("model.readers.0.rows_per_step=2.5"), HasSubstr("got 2.5"));
  EXPECT_THAT(with("model.readers.0.max_tape_tokens=99999999999999999999"), HasSubstr("model.readers.0.max_tape_tokens"));
  EXPECT_THAT(with("model.readers.0.bank=other"), HasSubstr("expected the name of one of model.banks, got \"other\""));
  EXPECT_THAT(with("model.readers.0.before_block=1"), HasSubstr("model.readers.0.before_block: expected 0 .. 0, got 1"));
  EXPECT_THAT(with("model.readers=3"), HasSubstr("model.readers: expected a list of tables, got 3"));
  EXPECT_THAT(with("model.heads=3"), HasSubstr("model.heads: expected a divisor of model.width 8, got 3"));
  EXPECT_THAT(with("model.readers.0.key_split=3"), HasSubstr("model.readers.0.key_split: expected a divisor of model.width 8, got 3"));
  EXPECT_THAT(with("task.name=image_classification"), HasSubstr("unknown key task.length"));
  EXPECT_THAT(with("task.name=partiy"), HasSubstr("did you mean \"parity\"?"));
  EXPECT_THAT(with("training.learning_rate=inf"), AllOf(HasSubstr("training.learning_rate: expected real in (0, "), HasSubstr("got inf")));
  EXPECT_THAT(error_of("train reader.toml -q -o run --seed 99999999999999999999999"), HasSubstr("--seed"));
  EXPECT_THAT(error_of("train reader.toml -q -o run --seed -1"), HasSubstr("--seed"));
  write("deep.toml", std::string(300000, '['));
  EXPECT_THAT(error_of("train deep.toml -q -o run"), HasSubstr("deep.toml"));
  write("bytes.toml", std::string("\xff\xfe\0", 3));
  EXPECT_THAT(error_of("train bytes.toml -q -o run"), HasSubstr("bytes.toml"));
  EXPECT_FALSE(exists("run"));
}

TEST_F(BadInputTest, WeightsThatLie) {
  ASSERT_EQ(run("train reader.toml -q -o run").status, 0);
  const std::string original = content_of(path("run/model.safetensors"));
  const auto error = [&](const std::function<void(json&)>& edit) {
    write_weights(original, edit);
    return error_of("evaluate run");
  };
  const std::string name = "stem.bias";
  EXPECT_THAT(error([&](json& h) { h["stem.bais"] = h[name], h.erase(name); }), AllOf(HasSubstr("run/model.safetensors"), HasSubstr(name)));
  EXPECT_THAT(error([&](json& h) { h[name]["shape"] = {2, 4}; }), AllOf(HasSubstr(name), HasSubstr("expected shape [8], got [2, 4]")));
  EXPECT_THAT(error([&](json& h) { h[name]["shape"] = {uint64_t{1} << 63}; }), HasSubstr(name));
  EXPECT_THAT(error([&](json& h) { h[name]["data_offsets"][1] = ~uint64_t{0}; }), HasSubstr(name));
  EXPECT_THAT(error([&](json& h) { h[name]["data_offsets"] = h["head.norm.bias"]["data_offsets"]; }), HasSubstr("run/model.safetensors"));
  EXPECT_THAT(error([&](json& h) { h[name]["dtype"] = "F8"; }), AllOf(HasSubstr(name), HasSubstr("unknown dtype 'F8'")));
  EXPECT_THAT(error([&](json& h) { h["a\nb\x1b[31m"] = h[name], h.erase(name); }), HasSubstr("run/model.safetensors"));
  for (const std::string& raw :
       {std::string(), std::string(5, 'x'), std::string(100, '\0'), std::string(7, '\0') + '\x80' + original.substr(8)}) {
    write("run/model.safetensors", raw);
    EXPECT_THAT(error_of("evaluate run"), HasSubstr("run/model.safetensors"));
  }
  write("run/model.safetensors", original);
  EXPECT_EQ(run("evaluate run --json").status, 0);  // nothing else was harmed
}

TEST_F(BadInputTest, MoreMemoryThanThereIs) {
  // A sanitizer's allocator is to refuse it as well, and not to end the program.
  ::setenv("ASAN_OPTIONS", "detect_leaks=0:detect_odr_violation=0:allocator_may_return_null=1", 1);
  ASSERT_EQ(run("train tiny.toml -q --set training.steps=1 -o run").status, 0);
  // Experts of more bytes than a process can address.
  const std::string huge = " --set model.width=544 --set model.moe.experts=65536 --set model.moe.ffn_width=1000000";
  const Outcome trained = run("train tiny.toml -q -o other" + huge), generated = run("generate run --prompt a" + huge);
  EXPECT_EQ(trained.status, 2);
  EXPECT_THAT(trained.errors, HasSubstr("out of memory: lower training.batch_size or evaluation.batch_size"));
  EXPECT_EQ(generated.status, 2);
  EXPECT_THAT(generated.errors, AllOf(HasSubstr("out of memory: give fewer prompts"), Not(HasSubstr("training."))));
}

TEST_F(BadInputTest, OtherRunsAndOtherConfigurations) {
  ASSERT_EQ(run("train reader.toml -q -o run").status, 0);
  const std::string weights = content_of(path("run/model.safetensors")), metrics = content_of(path("run/metrics.jsonl"));
  EXPECT_THAT(error_of("train reader.toml -q -o run"), HasSubstr("run: holds a run already"));
  EXPECT_THAT(error_of("train reader.toml -q -o run --resume --seed 5"), HasSubstr("training.seed = 1, now it is 5"));
  EXPECT_THAT(error_of("evaluate run --set task.length=9"),
              AllOf(HasSubstr("stem.positions"), HasSubstr("expected shape [9, 8], got [6, 8]")));
  EXPECT_THAT(error_of("evaluate run --set model.name=transformer"), HasSubstr("unknown key model.banks"));
  EXPECT_EQ(content_of(path("run/model.safetensors")), weights);
  EXPECT_EQ(content_of(path("run/metrics.jsonl")), metrics);
}

TEST_F(BadInputTest, ListKeysAndBatchesOfOne) {
  ASSERT_EQ(run("train reader.toml -q -o run").status, 0);
  const json longer = json::parse(run("evaluate run --json --set model.readers.0.threshold=3").output);
  EXPECT_EQ(longer["tape_length_mean"], 3);
  const json many = json::parse(run("evaluate run --json").output), one = json::parse(run("evaluate run --json --batch-size 1").output);
  EXPECT_EQ(many["accuracy"], one["accuracy"]);
  EXPECT_EQ(many["tape_length_mean"], one["tape_length_mean"]);
  EXPECT_EQ(many["flops"], one["flops"]);
}

}  // namespace
}  // namespace adatape
