#include "program.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using testing::content_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Outcome;

class TrainCommandTest : public testing::ProgramTest {
 protected:
  // Metrics without times.
  std::vector<json> metrics_of(const std::string& run) const {
    std::vector<json> lines;
    std::istringstream stream(content_of(path(run + "/metrics.jsonl")));
    for (std::string line; std::getline(stream, line);) {
      lines.push_back(json::parse(line));
      lines.back().erase("training_seconds");
      lines.back().erase("waited_for_data_seconds");
    }
    return lines;
  }
  void expect_same_run(const std::string& one, const std::string& two) const {
    EXPECT_EQ(metrics_of(one), metrics_of(two));
    EXPECT_EQ(content_of(path(one + "/model.safetensors")), content_of(path(two + "/model.safetensors")));
    const json first = json::parse(content_of(path(one + "/result.json"))), second = json::parse(content_of(path(two + "/result.json")));
    for (const char* key : {"accuracy", "loss", "validation_accuracy", "steps", "flops"}) EXPECT_EQ(first[key], second[key]) << key;
  }
};

TEST_F(TrainCommandTest, TrainsIntoTheDefaultFolder) {
  const Outcome outcome = run("train tiny.toml --threads 1 --seed 3");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("adatape: training transformer ("), HasSubstr("40/40 steps"), HasSubstr("validation accuracy")));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr("test accuracy"), HasSubstr("of 100 examples"), HasSubstr("runs/tiny/result.json")));
  const json run_json = json::parse(content_of(path("runs/tiny/run.json")));
  EXPECT_EQ(run_json["command"], "adatape train tiny.toml --threads 1 --seed 3");
  EXPECT_EQ(run_json["seed"], 3);
  EXPECT_EQ(run_json["threads"], 1);
  EXPECT_EQ(run_json["device"], "cpu");

  const Outcome again = run("train --output runs/tiny --resume");
  EXPECT_EQ(again.status, 0) << again.errors;
  EXPECT_THAT(again.output, AllOf(HasSubstr("runs/tiny is finished"), HasSubstr("test accuracy")));
  EXPECT_THAT(error_of("train tiny.toml"),
              HasSubstr("runs/tiny: holds a run already; go on with it by --resume, or choose another --output"));
  EXPECT_THAT(error_of("train tiny.toml --resume --seed 3 --set training.steps=50"), HasSubstr("training.steps = 40, now it is 50"));
  write("runs/tiny/result.json", "[]");
  EXPECT_THAT(error_of("train --output runs/tiny --resume"), HasSubstr("runs/tiny/result.json: expected the results of a finished run"));
}

TEST_F(TrainCommandTest, PathsMayBeAnyBytes) {
  const Outcome outcome = run("train tiny.toml -q --set training.steps=3 -o 'gro\xdf'");
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  for (const char* file : {"/run.json", "/result.json"}) {
    const json record = json::parse(content_of(path("gro\xdf") + file));
    EXPECT_THAT(record["command"].get<std::string>(), HasSubstr("gro\xef\xbf\xbd")) << file;
  }
}

TEST_F(TrainCommandTest, LabelsDoNotSteerATerminal) {
  write("red.toml", "label = \"red\\u001b[31m\"\n" + content_of(path("tiny.toml")));
  const std::string shown = "red\\x1b[31m";
  const Outcome outcome = run("train red.toml --set training.steps=3 -o red");
  ASSERT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.errors, AllOf(HasSubstr("training " + shown + " ("), HasSubstr(shown + "  3/3 steps"), Not(HasSubstr("\x1b"))));
  EXPECT_THAT(outcome.output, AllOf(HasSubstr(shown + " on parity"), Not(HasSubstr("\x1b"))));
}

TEST_F(TrainCommandTest, QuietSaysNothingOnStderr) {
  const Outcome outcome = run("train tiny.toml --quiet --set training.steps=3 -o q");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_EQ(outcome.errors, "");
}

TEST_F(TrainCommandTest, KilledAndResumedGivesTheSameBits) {
  const std::string longer = "train tiny.toml --quiet --threads 1 --set training.steps=300 --set training.accumulate=2 ";
  ASSERT_EQ(run(longer + "-o whole").status, 0);
  const pid_t child = start(longer + "-o killed");
  EXPECT_TRUE(wait_for([&] { return exists("killed/checkpoints/step_20"); }));
  ::kill(child, SIGKILL);
  EXPECT_EQ(finish(child).status, 128 + SIGKILL);
  EXPECT_FALSE(exists("killed/result.json"));
  const Outcome resumed = run("train --output killed --resume --threads 1");
  EXPECT_EQ(resumed.status, 0) << resumed.errors;
  EXPECT_THAT(resumed.errors, HasSubstr("adatape: going on from step "));
  expect_same_run("whole", "killed");
}

TEST_F(TrainCommandTest, CtrlCSavesAndTellsHowToGoOn) {
  const std::string longer = "train tiny.toml --quiet --threads 1 --set training.steps=300 --set training.checkpoint_every=0 ";
  ASSERT_EQ(run(longer + "-o whole").status, 0);
  for (const int signal : {SIGINT, SIGTERM}) {
    const std::string output = signal == SIGINT ? "int" : "term";
    const pid_t child = start(longer + "-o " + output);
    EXPECT_TRUE(wait_for([&] { return !content_of(path(output + "/metrics.jsonl")).empty(); }));
    ::kill(child, signal);
    const Outcome stopped = finish(child);
    EXPECT_EQ(stopped.status, 128 + signal);
    EXPECT_THAT(stopped.errors, HasSubstr("; go on with: adatape train --output " + output + " --resume\n"));
    EXPECT_TRUE(exists(output + "/model.safetensors"));
    ASSERT_EQ(run("train --output " + output + " --resume --quiet --threads 1").status, 0);
    expect_same_run("whole", output);
  }
}

TEST_F(TrainCommandTest, ResumeWithoutACheckpointBeginsAnew) {
  fs::create_directories(path("empty"));
  const Outcome outcome = run("train tiny.toml --set training.steps=2 -o empty --resume");
  EXPECT_EQ(outcome.status, 0);
  EXPECT_THAT(outcome.errors, HasSubstr("empty has no checkpoint yet: beginning at step 0"));
}

TEST_F(TrainCommandTest, BadConfigurationsAreOneLine) {
  EXPECT_THAT(error_of("train nowhere.toml"), HasSubstr("cannot read nowhere.toml: No such file or directory\n"));
  write("tiny_two.toml", "");
  EXPECT_THAT(error_of("train tin.toml"), HasSubstr("; did you mean tiny.toml or tiny_two.toml?"));
  EXPECT_THAT(error_of("train ./tinny.toml"), HasSubstr("; did you mean ./tiny.toml?"));
  EXPECT_THAT(error_of("train tiny.toml --set training.stepz=3"), AllOf(HasSubstr("training.stepz"), HasSubstr("training.steps")));
  EXPECT_THAT(error_of("train tiny.toml --set training.steps=many"), HasSubstr("training.steps"));
  EXPECT_THAT(error_of("train tiny.toml --set training.steps=-1"), HasSubstr("training.steps"));
  EXPECT_THAT(error_of("train tiny.toml --set training.learning_rate=0"), HasSubstr("training.learning_rate"));
  EXPECT_THAT(error_of("train tiny.toml --set model.name=transfomer"), HasSubstr("transformer"));
  EXPECT_THAT(error_of("train tiny.toml --set model.heads=3"), HasSubstr("model.heads"));
  EXPECT_THAT(error_of("train tiny.toml --set nonsense"), HasSubstr("nonsense"));
  EXPECT_THAT(error_of("train tiny.toml --device tpu"), HasSubstr("tpu"));
  EXPECT_THAT(error_of("train tiny.toml --threads 0"), HasSubstr("--threads"));
  EXPECT_THAT(error_of("train"), HasSubstr("expected a configuration file"));
  EXPECT_THAT(error_of("train --resume"), HasSubstr("--output DIR"));
  EXPECT_THAT(error_of("train tiny.toml -o missing --resume"), HasSubstr("missing: no such folder"));
  EXPECT_THAT(error_of("train -o missing --resume"), HasSubstr("missing: no such folder"));
  write("broken.toml", "[task\nname = 1\n");
  EXPECT_THAT(error_of("train broken.toml"), HasSubstr("broken.toml"));
  EXPECT_FALSE(exists("runs"));  // nothing was begun
}

TEST_F(TrainCommandTest, PlacesThatCannotBeWritten) {
  EXPECT_THAT(error_of("train tiny.toml -q -o /dev/full"), HasSubstr("/dev/full"));
  EXPECT_THAT(error_of("train tiny.toml -q -o /proc/run"), HasSubstr("/proc/run"));
  EXPECT_THAT(error_of("train tiny.toml -q -o tiny.toml"), HasSubstr("found a file"));
  fs::create_directories(path("full"));
  fs::create_symlink("/dev/full", path("full/events.out.tfevents.link"));
}

TEST_F(TrainCommandTest, AFullDiskUnderTheLogIsAnError) {
  fs::create_directories(path("run"));
  fs::create_symlink("/dev/full", path("run/metrics.jsonl"));
  EXPECT_THAT(error_of("train tiny.toml -q -o run --resume"), AllOf(HasSubstr("run/metrics.jsonl"), HasSubstr("No space left")));
}

TEST_F(TrainCommandTest, CudaIsRefusedWhereThereIsNone) {
  if (run("train tiny.toml -q -o cuda --device cuda").status == 0) GTEST_SKIP() << "this machine has a CUDA device";
  EXPECT_THAT(error_of("train tiny.toml -q -o cuda --device cuda"), HasSubstr("--device cpu"));
}

TEST_F(TrainCommandTest, ADivergingRunIsAnError) {
  const std::string error =
      error_of("train tiny.toml -q -o wild --set training.learning_rate=1e30 --set training.clip_norm=0 --set training.warmup_steps=0");
  EXPECT_THAT(error, AllOf(HasSubstr("training: step "), HasSubstr("no checkpoint was written yet")));
  EXPECT_FALSE(exists("wild/model.safetensors"));
}

}  // namespace
}  // namespace adatape
