#include "adatape/train/run_record.h"

#include "adatape/models/registry.h"
#include "adatape/train/trainer.h"
#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::tiny_config;
using testing::TinyModel;

nlohmann::ordered_json train_into(const std::string& output, RunConfig& config, TinyModel& model, bool resume = false) {
  const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
  return Trainer(config, *task, model, {.output = output, .command = "test", .resume = resume, .quiet = true}).run();
}

nlohmann::ordered_json train_into(const std::string& output, const std::vector<std::string>& assignments = {}) {
  RunConfig config = tiny_config(assignments);
  TinyModel model;
  return train_into(output, config, model);
}

class RunRecordTest : public ::testing::Test {
 protected:
  TemporaryFolder folder_;
};

TEST_F(RunRecordTest, AFolderHoldsOneRun) {
  RunConfig config = tiny_config({"training.steps=8"});
  EXPECT_EQ(inspect_output(folder_ / "run", config, false), OutputState::kFresh);
  EXPECT_THAT(error_of([&] { inspect_output(folder_ / "run", config, true); }), HasSubstr("no such folder"));
  TinyModel model;
  train_into(folder_ / "run", config, model);
  EXPECT_EQ(inspect_output(folder_ / "run", config, true), OutputState::kFinished);
  EXPECT_THAT(error_of([&] { inspect_output(folder_ / "run", config, false); }),
              HasSubstr("holds a run already; go on with it by --resume"));
  RunConfig changed = tiny_config({"training.steps=8", "training.keep_checkpoints=3"});
  EXPECT_THAT(error_of([&] { inspect_output(folder_ / "run", changed, true); }),
              HasSubstr("the run was begun with training.keep_checkpoints = 2, now it is 3"));

  fs::create_directories(folder_ / "logs");
  write_file_atomically(folder_ / "logs/output.txt", "");
  EXPECT_EQ(inspect_output(folder_ / "logs", config, false), OutputState::kFresh);  // not a run's file
  write_file_atomically(folder_ / "file", "");
  EXPECT_THAT(error_of([&] { inspect_output(folder_ / "file", config, false); }), HasSubstr("found a file"));
}

TEST_F(RunRecordTest, WeightsWithoutACheckpointAreNotOverwritten) {
  RunConfig config = tiny_config({"training.steps=8"});
  TinyModel model;
  const std::string output = folder_ / "run";
  train_into(output, config, model);
  EXPECT_TRUE(can_resume(output));
  fs::remove_all(output + "/checkpoints");
  EXPECT_FALSE(can_resume(output));
  EXPECT_EQ(inspect_output(output, config, true), OutputState::kFinished);  // its results are there, and nothing is trained
  const std::string weights = read_file(output + "/model.safetensors");
  for (const char* next : {"result.json", "config.toml"}) {
    fs::remove(output + "/" + next);
    EXPECT_THAT(error_of([&] { inspect_output(output, config, true); }), HasSubstr("found model.safetensors alone"));
    EXPECT_THAT(error_of([&] { train_into(output, config, model, true); }),
                HasSubstr("choose another --output, or remove model.safetensors to begin again"));
  }
  EXPECT_THAT(error_of([&] { inspect_output(output, config, false); }), HasSubstr("holds a model already; choose another --output"));
  EXPECT_EQ(read_file(output + "/model.safetensors"), weights);
  fs::remove(output + "/model.safetensors");
  EXPECT_EQ(inspect_output(output, config, true), OutputState::kFresh);
}

// Another process may have trained between a caller's look at the folder and this one's lock.
TEST_F(RunRecordTest, LooksAgainOnceTheFolderIsItsOwn) {
  const std::string output = folder_ / "run";
  const nlohmann::ordered_json result = train_into(output);
  const std::string weights = read_file(output + "/model.safetensors");
  EXPECT_THAT(error_of([&] { train_into(output, {"training.seed=2"}); }), HasSubstr("holds a run already"));
  EXPECT_EQ(read_file(output + "/model.safetensors"), weights);
  RunConfig config = tiny_config();
  TinyModel model;
  EXPECT_EQ(train_into(output, config, model, true).dump(), result.dump());
  EXPECT_EQ(model.initialized, 0);
  EXPECT_TRUE(model.forward_sizes.empty());
}

TEST_F(RunRecordTest, DamagedResultsAreNamed) {
  nlohmann::ordered_json result = train_into(folder_ / "run");
  EXPECT_EQ(read_result(folder_ / "run").dump(), result.dump());
  for (const char* damaged : {"", "{\"model\": ", "[]", "{}", "{\"draws\": null}"}) {
    write_file_atomically(folder_ / "run/result.json", damaged);
    EXPECT_THAT(error_of([&] { read_result(folder_ / "run"); }),
                AllOf(HasSubstr("run/result.json: expected the results of a finished run"), HasSubstr("remove the file and resume")));
  }
  result["described"]["bits per byte"] = nullptr;  // how JSON writes NaN
  EXPECT_THAT(summarize_result(result), HasSubstr("bits per byte"));
}

TEST_F(RunRecordTest, ADamagedRecordStopsNoRun) {
  write_file_atomically(folder_ / "run.json", R"({"device": "cpu", "threads": 1, "resumed": "yes"})");
  write_run_json(folder_.path(), "again", /*seed=*/1, at::kCPU, /*resumed_at_step=*/7);
  EXPECT_EQ(nlohmann::json::parse(read_file(folder_ / "run.json"))["resumed"][0]["step"], 7);
}

TEST_F(RunRecordTest, OneProcessTrainsIntoAFolder) {
  const std::string output = folder_ / "run";
  make_directories(output);
  const FolderLock lock(output);
  EXPECT_THAT(error_of([&] { train_into(output); }), HasSubstr("another process is training into this folder"));
}

TEST(ShellQuote, QuotesWhatAShellWouldRead) {
  EXPECT_EQ(shell_quote("runs/a_b-1.toml"), "runs/a_b-1.toml");
  EXPECT_EQ(shell_quote("model.readers.0.threshold=3"), "model.readers.0.threshold=3");
  EXPECT_EQ(shell_quote("my run"), "'my run'");
  EXPECT_EQ(shell_quote("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quote(""), "''");
}

}  // namespace
}  // namespace adatape
