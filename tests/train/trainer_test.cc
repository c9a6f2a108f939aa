#include "adatape/train/trainer.h"

#include "adatape/core/safetensors.h"
#include "adatape/core/signals.h"
#include "adatape/models/registry.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/run_record.h"
#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::AllOf;
using testing::expect_same_run;
using ::testing::HasSubstr;
using testing::lines_of;
using testing::tiny_config;
using testing::TinyModel;

struct Killed {};  // stands for a process that dies: nothing of the trainer's is called to save

nlohmann::ordered_json train(const std::string& output, RunConfig& config, TinyModel& model, bool resume = false) {
  const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
  Trainer trainer(config, *task, model, {.output = output, .command = "test", .resume = resume, .quiet = true});
  return trainer.run();
}

nlohmann::ordered_json train(const std::string& output, const std::vector<std::string>& assignments = {}) {
  RunConfig config = tiny_config(assignments);
  TinyModel model;
  return train(output, config, model);
}

class TrainerTest : public ::testing::Test {
 protected:
  void SetUp() override { clear_stop_request(); }
  void TearDown() override { clear_stop_request(); }
  TemporaryFolder folder_;
};

TEST_F(TrainerTest, LearnsAndWritesTheFolder) {
  const std::string output = folder_ / "run";
  const nlohmann::ordered_json result = train(output, {"label=tiny", "description=one symbol"});
  EXPECT_EQ(result["accuracy"], 1.0);
  EXPECT_EQ(result["validation_accuracy"], 1.0);
  EXPECT_EQ(result["steps"], 30);
  EXPECT_EQ(result["draws"], 1);
  EXPECT_EQ(result["parameters"], 22);
  EXPECT_EQ(result["test_examples"], 60);
  EXPECT_EQ(result["tokens"], 1.0);
  EXPECT_EQ(result["token_steps"], 2.0);
  EXPECT_EQ(result["flops"], 20.0);
  EXPECT_EQ(result["draw_history"].size(), 1u);
  EXPECT_EQ(result["draw_history"][0]["steps"], 30);
  EXPECT_GT(result["training_seconds"], 0.0);
  EXPECT_GT(result["wall_seconds"], result["training_seconds"]);
  for (const char* key : {"model", "model_name", "task", "seed", "loss", "learning_rate", "tape_length_mean", "tape_length_std",
                          "examples_per_second", "waited_for_data_seconds", "device", "threads", "version", "command", "description"}) {
    EXPECT_TRUE(result.contains(key)) << key;
  }
  EXPECT_EQ(json::parse(read_file(output + "/result.json")), json::parse(result.dump()));
  EXPECT_THAT(summarize_result(result), AllOf(HasSubstr("100.00 % of 60 examples"), HasSubstr("steps                30\n")));

  const json run = json::parse(read_file(output + "/run.json"));
  EXPECT_EQ(run["command"], "test");
  EXPECT_THAT(run["started"].get<std::string>(), ::testing::MatchesRegex("20..-..-..T..:..:..Z"));

  // Losses each 10 steps and at evaluations; evaluations each 8 steps and at the end.
  std::vector<int64_t> losses, evaluations;
  for (const json& line : lines_of(output + "/metrics.jsonl")) {
    (line.contains("loss") ? losses : evaluations).push_back(line["step"].get<int64_t>());
    if (line.contains("loss")) {
      EXPECT_NEAR(line["loss"].get<double>(), line["task_loss"].get<double>() + 0.01 * line["size_loss"].get<double>(), 1e-6);
    }
  }
  EXPECT_EQ(losses, (std::vector<int64_t>{8, 10, 16, 20, 24, 30}));
  EXPECT_EQ(evaluations, (std::vector<int64_t>{8, 16, 24, 30}));

  const SafetensorsFile model = read_safetensors(output + "/model.safetensors");
  EXPECT_EQ(model.metadata.at("step"), std::to_string(result["best_step"].get<int64_t>()));
  EXPECT_EQ(model.tensors.size(), 3u);
  EXPECT_EQ(list_checkpoints(output), (std::vector<int64_t>{30, 20}));
}

// Of one step: the shares of the choices and tokens that a recorded forward pass of the same batch finds.
TEST_F(TrainerTest, WhatExpertsDropIsLogged) {
  const std::vector<std::string> experts = {"task.length=12",         "model.blocks=4",    "model.moe.experts=4",
                                            "model.moe.capacity=0.7", "model.moe.top_k=2", "training.steps=1"};
  const auto logged = [&](const std::string& name, std::vector<std::string> assignments) {
    RunConfig config = tiny_config(assignments);
    const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
    const std::shared_ptr<Model> model = find_model(config.model->name).make_model(*config.model, task->input_spec());
    Trainer(config, *task, *model, {.output = folder_ / name, .command = "test", .quiet = true}).run();
    return lines_of(folder_ / name + "/metrics.jsonl");
  };
  RunConfig config = tiny_config(experts);
  const std::unique_ptr<Task> task = find_task("parity").make_task(*config.task);
  const std::shared_ptr<Model> model = find_model("transformer").make_model(*config.model, task->input_spec());
  const auto seed = static_cast<uint64_t>(config.training.seed);
  model->initialize(seed, 0);
  const ModelOutput output =
      model->forward(task->training_batch(seed, 0, config.training.batch_size), {.training = true, .record = true, .seed = seed});
  int64_t choices = 0, served = 0;
  for (const ExpertLoad& load : output.expert_loads) {
    choices += load.choices;
    for (const int64_t of_expert : load.served) served += of_expert;
  }
  ASSERT_GT(choices, served);
  const double dropped = 1 - static_cast<double>(served) / static_cast<double>(choices);
  for (const std::string way : {"training.accumulate=1", "training.accumulate=4", "training.parallel=examples"}) {
    std::vector<std::string> assignments = experts;
    assignments.push_back(way);
    const std::vector<json> lines = logged(way, assignments);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_NEAR(lines[0].at("dropped_share").get<double>(), dropped, 1e-6) << way;
    EXPECT_GT(lines[0].at("unserved_share"), 0);
    EXPECT_LT(lines[0].at("unserved_share"), lines[0].at("dropped_share"));
    EXPECT_THAT(lines[0].dump() + lines[1].dump(), ::testing::Not(::testing::AnyOf(HasSubstr("_choices"), HasSubstr("_tokens"))));
    EXPECT_FALSE(lines[1].contains("validation_dropped_share"));
  }
  EXPECT_FALSE(logged("dense", {"task.length=12", "training.steps=1"})[0].contains("dropped_share"));
}

TEST_F(TrainerTest, EqualSeedsGiveEqualBits) {
  train(folder_ / "a");
  train(folder_ / "b");
  train(folder_ / "c", {"training.seed=2"});
  expect_same_run(folder_ / "a", folder_ / "b", "/checkpoints/step_30");
  EXPECT_NE(read_file(folder_ / "a/model.safetensors"), read_file(folder_ / "c/model.safetensors"));
}

TEST_F(TrainerTest, AnInterruptedRunEndsInTheSameBits) {
  for (const int64_t accumulate : {1, 3}) {
    std::vector<std::string> assignments = {concat("training.accumulate=", accumulate), "training.checkpoint_every=0"};
    if (accumulate > 1) assignments.insert(assignments.end(), {"training.average_decay=0.9", "training.data_threads=2"});
    const std::string whole = folder_ / concat("whole_", accumulate);
    train(whole, assignments);
    for (const int64_t at : {0, 6, 7, 12, 29}) {  // steps before an evaluation among them
      const std::string output = folder_ / concat("stopped_", accumulate, "_", at);
      RunConfig config = tiny_config(assignments);
      TinyModel model;
      model.on_forward = [&](const ForwardOptions& options) {
        if (options.training && static_cast<int64_t>(options.step) == at) request_stop();
      };
      try {
        train(output, config, model);
        FAIL() << "expected Interrupted at " << at;
      } catch (const Interrupted& stopped) {
        EXPECT_EQ(std::string(stopped.what()),
                  concat("stopped training at step ", at + 1, "; go on with: adatape train --output ", output, " --resume"));
      }
      EXPECT_EQ(list_checkpoints(output), std::vector<int64_t>{at + 1});
      EXPECT_TRUE(fs::exists(output + "/model.safetensors"));
      EXPECT_FALSE(fs::exists(output + "/result.json"));
      clear_stop_request();
      TinyModel fresh;
      EXPECT_EQ(inspect_output(output, config, true), OutputState::kUnfinished);
      train(output, config, fresh, true);
      EXPECT_EQ(fresh.initialized, 0);
      expect_same_run(whole, output, "/checkpoints/step_30");
      EXPECT_EQ(json::parse(read_file(output + "/run.json"))["resumed"][0]["step"], at + 1);
    }
  }
}

TEST_F(TrainerTest, TheAverageOfTheWeightsIsWhatIsEvaluatedAndKept) {
  const nlohmann::ordered_json result = train(folder_ / "run", {"training.average_decay=0.9", "training.evaluate_every=30"});
  EXPECT_EQ(result["best_step"], 30);
  const std::string last = folder_ / "run/checkpoints/step_30";
  const NamedTensors average = read_safetensors(last + "/average.safetensors").tensors,
                     best = read_safetensors(last + "/best.safetensors").tensors,
                     kept = read_safetensors(folder_ / "run/model.safetensors").tensors,
                     weights = read_safetensors(last + "/model.safetensors").tensors;
  for (const auto& [name, tensor] : average) {
    EXPECT_TRUE(tensor.equal(best.at(name))) << name;
    EXPECT_TRUE(tensor.equal(kept.at(name))) << name;
    EXPECT_FALSE(tensor.equal(weights.at(name))) << name;
  }
  // The average takes no part in training.
  train(folder_ / "plain", {"training.evaluate_every=30"});
  EXPECT_EQ(read_file(last + "/model.safetensors"), read_file(folder_ / "plain/checkpoints/step_30/model.safetensors"));
  EXPECT_THAT(error_of([] { tiny_config({"training.average_decay=1"}); }),
              HasSubstr("training.average_decay: expected a number below 1, got 1"));
}

TEST_F(TrainerTest, AnAverageBeginsAnewWithEachDraw) {
  RunConfig config = tiny_config({"training.average_decay=0.9", "training.steps=1", "training.evaluate_every=1", "training.restart_below=1",
                                  "training.restart_after=1", "training.maximum_draws=2"});
  TinyModel model;
  model.useless_draws = 1;  // a bias of 10,000
  EXPECT_EQ(train(folder_ / "run", config, model)["draws"], 2);
  const at::Tensor bias = read_safetensors(folder_ / "run/checkpoints/step_2/average.safetensors").tensors.at("bias");
  EXPECT_LT(bias.abs().max().item<double>(), 100);  // a tenth of the first draw's would be left
}

TEST_F(TrainerTest, AnEvaluationThatWasInterruptedIsTakenAgain) {
  train(folder_ / "whole");
  for (const bool last : {false, true}) {
    const std::string output = folder_ / concat("stopped_", last);
    RunConfig config = tiny_config();
    TinyModel model;
    int64_t evaluations = 0;
    model.on_forward = [&](const ForwardOptions& options) {
      // 50 examples in batches of 40: two passes for each of four validations, then the test.
      if (!options.training && ++evaluations == (last ? 7 : 3)) request_stop();
    };
    EXPECT_THROW(train(output, config, model), Interrupted);
    EXPECT_EQ(list_checkpoints(output).front(), last ? 30 : 16);
    clear_stop_request();
    TinyModel fresh;
    train(output, config, fresh, true);
    expect_same_run(folder_ / "whole", output, "/checkpoints/step_30");
  }
}

TEST_F(TrainerTest, AStoppedTestIsTakenAgain) {
  train(folder_ / "whole");
  RunConfig config = tiny_config();
  TinyModel model;
  int64_t evaluations = 0;
  model.on_forward = [&](const ForwardOptions& options) {
    if (!options.training && ++evaluations == 9) request_stop();
  };
  EXPECT_THROW(train(folder_ / "stopped", config, model), Interrupted);
  EXPECT_FALSE(fs::exists(folder_ / "stopped/result.json"));
  clear_stop_request();
  TinyModel fresh;
  train(folder_ / "stopped", config, fresh, true);
  EXPECT_TRUE(fresh.forward_sizes.empty());  // no further step
  expect_same_run(folder_ / "whole", folder_ / "stopped", "/checkpoints/step_30");
}

TEST_F(TrainerTest, ADeadProcessIsGoneOnFromItsLastCheckpoint) {
  for (const int64_t accumulate : {1, 2}) {
    const std::vector<std::string> assignments = {concat("training.accumulate=", accumulate)};
    const std::string whole = folder_ / concat("whole_", accumulate);
    train(whole, assignments);
    for (const int64_t at : {3, 17, 27}) {
      const std::string output = folder_ / concat("killed_", accumulate, "_", at);
      RunConfig config = tiny_config(assignments);
      TinyModel model;
      model.on_forward = [&](const ForwardOptions& options) {
        if (options.training && static_cast<int64_t>(options.step) == at) throw Killed{};
      };
      EXPECT_THROW(train(output, config, model), Killed);
      TinyModel fresh;
      train(output, config, fresh, true);
      EXPECT_EQ(fresh.initialized, at < 10 ? 1 : 0);  // without a checkpoint it begins at step 0
      expect_same_run(whole, output, "/checkpoints/step_30");
    }
  }
}

TEST_F(TrainerTest, DrawsWeightsAnewBelowAThreshold) {
  const std::vector<std::string> assignments = {"training.restart_below=0.9", "training.restart_after=10", "training.schedule=constant"};
  RunConfig config = tiny_config(assignments);
  TinyModel model;
  model.useless_draws = 2;
  const nlohmann::ordered_json result = train(folder_ / "whole", config, model);
  EXPECT_EQ(model.initialized, 3);
  EXPECT_EQ(result["draws"], 3);
  EXPECT_EQ(result["steps"], 16 + 16 + 30);  // decided at the evaluation of step 16
  EXPECT_EQ(result["accuracy"], 1.0);
  double seconds = 0;
  for (const auto& draw : result["draw_history"]) seconds += draw["seconds"].get<double>();
  EXPECT_NEAR(seconds, result["training_seconds"].get<double>(), 1e-9);
  EXPECT_EQ(result["draw_history"][0]["steps"], 16);
  EXPECT_LT(result["draw_history"][0]["validation_accuracy"], 0.9);
  EXPECT_EQ(result["draw_history"][2]["validation_accuracy"], 1.0);
  const json last = lines_of(folder_ / "whole/metrics.jsonl").back();
  EXPECT_EQ(last["draw"], 2);
  EXPECT_EQ(last["step"], 62);

  // Interrupted in the second draw.
  TinyModel stopped;
  stopped.useless_draws = 2;
  stopped.on_forward = [&](const ForwardOptions& options) {
    if (options.training && options.step == 20) request_stop();
  };
  EXPECT_THROW(train(folder_ / "stopped", config, stopped), Interrupted);
  clear_stop_request();
  TinyModel fresh;
  fresh.useless_draws = 2;
  train(folder_ / "stopped", config, fresh, true);
  EXPECT_EQ(fresh.initialized, 1);
  expect_same_run(folder_ / "whole", folder_ / "stopped", "/checkpoints/step_62");
}

TEST_F(TrainerTest, TheLastDrawRunsToItsEnd) {
  RunConfig config = tiny_config({"training.restart_below=0.9", "training.restart_after=1", "training.maximum_draws=2"});
  TinyModel model;
  model.useless_draws = 5;
  const nlohmann::ordered_json result = train(folder_ / "run", config, model);
  EXPECT_EQ(result["draws"], 2);
  EXPECT_EQ(result["steps"], 8 + 30);
}

TEST_F(TrainerTest, StopsAtAnAccuracy) {
  const nlohmann::ordered_json result =
      train(folder_ / "run", {"training.stop_at=0.95", "training.steps=400", "training.schedule=constant"});
  EXPECT_LT(result["steps"], 400);
  EXPECT_GE(result["validation_accuracy"], 0.95);
}

TEST_F(TrainerTest, AccumulationSplitsAStepWithoutChangingIt) {
  RunConfig config = tiny_config({"training.steps=5", "training.accumulate=3"});
  TinyModel model;
  train(folder_ / "split", config, model);
  EXPECT_EQ(model.forward_sizes, std::vector<int64_t>(15, 4));
  train(folder_ / "whole", {"training.steps=5"});
  const NamedTensors split = read_safetensors(folder_ / "split/model.safetensors").tensors;
  const NamedTensors whole = read_safetensors(folder_ / "whole/model.safetensors").tensors;
  for (const auto& [name, tensor] : whole) EXPECT_LT((tensor - split.at(name)).abs().max().item<double>(), 1e-5) << name;
}

TEST_F(TrainerTest, StopsAtALossThatIsNotFinite) {
  RunConfig config = tiny_config();
  TinyModel model;
  model.blows_up_at = 15;
  EXPECT_THAT(error_of([&] { train(folder_ / "run", config, model); }),
              AllOf(HasSubstr("training: step 16: expected finite losses and gradients, got loss "),
                    HasSubstr("the checkpoint of step 10 is kept"), HasSubstr("training.learning_rate")));
  EXPECT_EQ(list_checkpoints(folder_ / "run"), std::vector<int64_t>{10});
  EXPECT_EQ(read_safetensors(folder_ / "run/model.safetensors").metadata.at("step"), "8");
  EXPECT_FALSE(fs::exists(folder_ / "run/result.json"));
}

TEST_F(TrainerTest, PassesOverADamagedCheckpoint) {
  RunConfig config = tiny_config();
  TinyModel model;
  model.on_forward = [](const ForwardOptions& options) {
    if (options.training && options.step == 23) throw Killed{};
  };
  const std::string output = folder_ / "run";
  EXPECT_THROW(train(output, config, model), Killed);
  ASSERT_EQ(list_checkpoints(output), (std::vector<int64_t>{20, 10}));
  const std::string newest = output + "/checkpoints/step_20/optimizer.safetensors";
  fs::resize_file(newest, fs::file_size(newest) / 2);
  fs::create_directories(output + "/checkpoints/.step_24.1.0.partial");  // what a killed process leaves

  TinyModel fresh;
  train(output, config, fresh, true);
  EXPECT_EQ(fresh.forward_sizes.size(), 20u);  // from step 10
  EXPECT_FALSE(fs::exists(output + "/checkpoints/.step_24.1.0.partial"));
  train(folder_ / "whole");
  expect_same_run(folder_ / "whole", output, "/checkpoints/step_30");
}

// A process that was killed while it put a checkpoint in the place of another left the new one under its staged name, beside the old one, a
// part of it, or nothing.
TEST_F(TrainerTest, FinishesTheReplacementOfACheckpoint) {
  train(folder_ / "whole");
  for (const std::string old : {"whole", "damaged", "gone"}) {
    SCOPED_TRACE(old);
    RunConfig config = tiny_config({"training.keep_checkpoints=1"});
    TinyModel model;
    model.on_forward = [](const ForwardOptions& options) {
      if (options.training && options.step == 23) throw Killed{};
    };
    const std::string output = folder_ / ("old_" + old), checkpoint = output + "/checkpoints/step_20";
    EXPECT_THROW(train(output, config, model), Killed);
    ASSERT_EQ(list_checkpoints(output), (std::vector<int64_t>{20}));
    if (old == "gone") {
      fs::rename(checkpoint, checkpoint + ".partial");
    } else {
      fs::copy(checkpoint, checkpoint + ".partial");
      if (old == "damaged") fs::remove(checkpoint + "/state.json");
    }
    EXPECT_EQ(list_checkpoints(output), (std::vector<int64_t>{20}));
    TinyModel fresh;
    train(output, config, fresh, true);
    EXPECT_EQ(fresh.initialized, 0);
    EXPECT_EQ(fresh.forward_sizes.size(), 10u);  // from step 20
    EXPECT_FALSE(fs::exists(checkpoint + ".partial"));
    expect_same_run(folder_ / "whole", output, "/checkpoints/step_30");
  }
}

TEST_F(TrainerTest, SaysWhenNoCheckpointCanBeRead) {
  RunConfig config = tiny_config();
  TinyModel model;
  const std::string output = folder_ / "run";
  train(output, config, model);
  for (const char* step : {"20", "30"})
    write_file_atomically(concat(output, "/checkpoints/step_", step, "/state.json"), "{\"version\": 1}");
  fs::remove(output + "/result.json");
  EXPECT_THAT(error_of([&] { train(output, config, model, true); }),
              AllOf(HasSubstr("no checkpoint can be read"), HasSubstr("step_30/state.json")));
}

TEST_F(TrainerTest, ErrorsOfTheDataArriveAsThemselves) {
  RunConfig config = tiny_config();
  const std::unique_ptr<Task> task = find_task("parity").make_task(*config.task);
  struct FailingTask : Task {
    const Task& inner;
    explicit FailingTask(const Task& task) : inner(task) {}
    InputSpec input_spec() const override { return inner.input_spec(); }
    Batch training_batch(uint64_t seed, uint64_t step, int64_t size) const override {
      if (step == 4) throw Error("data: the file of step 4 is gone");
      return inner.training_batch(seed, step, size);
    }
    Batch held_out_batch(Split split, int64_t first, int64_t count) const override { return inner.held_out_batch(split, first, count); }
    int64_t held_out_size(Split split) const override { return inner.held_out_size(split); }
    int64_t epoch_size() const override { return 0; }
    at::Tensor example_loss(const at::Tensor& logits, const Batch& batch) const override { return inner.example_loss(logits, batch); }
    at::Tensor example_correct(const at::Tensor& logits, const Batch& batch) const override { return inner.example_correct(logits, batch); }
    at::Tensor example_covariate(const Batch& batch) const override { return inner.example_covariate(batch); }
    std::string covariate_name() const override { return ""; }
    std::vector<std::string> class_names() const override { return {}; }
  } failing(*task);
  TinyModel model;
  EXPECT_EQ(error_of([&] { Trainer(config, failing, model, {.output = folder_ / "run", .command = "", .quiet = true}).run(); }),
            "data: the file of step 4 is gone");
}

}  // namespace
}  // namespace adatape
