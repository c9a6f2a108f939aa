// Training on CUDA: bfloat16 where it is served and refused where it is not, and equal bits however often a run was interrupted.
#include "adatape/core/signals.h"
#include "adatape/models/registry.h"
#include "adatape/train/run_folder.h"
#include "adatape/train/trainer.h"
#include "test_run.h"
#include "tests/cuda.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using testing::expect_same_run;
using ::testing::HasSubstr;
using testing::tiny_config;
using testing::TinyModel;

TEST(TrainingPrecisionTest, Bfloat16IsRefusedOnTheCpu) {
  const TemporaryFolder folder;
  RunConfig config = tiny_config({"training.precision=bfloat16"});
  const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
  TinyModel model;
  EXPECT_EQ(error_of([&] { Trainer(config, *task, model, {.output = folder / "run", .command = "", .quiet = true}).run(); }),
            "training.precision: bfloat16 needs a CUDA device, got cpu; leave it out or train with --device cuda");
  EXPECT_FALSE(std::filesystem::exists(folder / "run"));
}

TEST(TrainingPrecisionTest, NamesThatMeanNothing) {
  EXPECT_EQ(tiny_config().training.precision, "float32");
  EXPECT_THAT(error_of([] { tiny_config({"training.precision=half"}); }),
              AllOf(HasSubstr("training.precision"), HasSubstr("float32"), HasSubstr("bfloat16"), HasSubstr("half")));
}

// A model as it is, with an eye on its training steps.
class Watched : public Model {
 public:
  explicit Watched(std::shared_ptr<Model> model) : model_(register_module("model", std::move(model))) {}
  void initialize(uint64_t seed, uint64_t draw) override { model_->initialize(seed, draw); }
  ModelOutput forward(const Batch& batch, const ForwardOptions& options) override {
    if (options.training && on_step) on_step(static_cast<int64_t>(options.step));
    return model_->forward(batch, options);
  }
  torch::Tensor combine(const ModelOutput& output, const ExampleLoss& loss) const override { return model_->combine(output, loss); }
  std::vector<TapeReader*> tape_readers() override { return model_->tape_readers(); }
  bool examples_are_independent() const override { return model_->examples_are_independent(); }
  std::function<void(int64_t)> on_step;

 private:
  std::shared_ptr<Model> model_;
};

struct TrainingCase {
  friend void PrintTo(const TrainingCase& one, std::ostream* stream) { *stream << one.label; }
  std::string label;
  std::string model;  // lines of [model]
};

// Whether the first symbol is a 1, which all of these learn at once where there are few. Lengths differ from example to example.
RunConfig config_of(const TrainingCase& one, const std::string& precision, const std::string& lengths) {
  return RunConfig::from_document(ConfigDocument::from_text(R"(
[task]
name = "parity"
target = "first_symbol"
length = 12
lengths = )" + lengths + R"(
[training]
steps = 60
batch_size = 32
learning_rate = 0.01
warmup_steps = 4
evaluate_every = 20
validation_examples = 100
checkpoint_every = 0
precision = ")" + precision + R"("
[evaluation]
test_examples = 100
batch_size = 50
[model]
width = 64
heads = 4
ffn_width = 128
input = "tokens"
)" + one.model));
}

class TrainingOnCuda : public ::testing::TestWithParam<TrainingCase> {
 protected:
  void SetUp() override {
    need_cuda();
    clear_stop_request();
  }
  void TearDown() override { clear_stop_request(); }

  // stop_at: the step at which a stop is asked for; -1: never.
  json train(const std::string& output, const std::string& precision = "float32", bool resume = false, int64_t stop_at = -1,
             const std::string& lengths = "[7, 12]") {
    RunConfig config = config_of(GetParam(), precision, lengths);
    const std::unique_ptr<Task> task = find_task(config.task->name).make_task(*config.task);
    Watched model(find_model(config.model->name).make_model(*config.model, task->input_spec()));
    model.on_step = [&](int64_t step) {
      if (step == stop_at) request_stop();
    };
    Trainer trainer(config, *task, model,
                    {.output = output, .command = "test", .device = parse_device("cuda"), .resume = resume, .quiet = true});
    return json::parse(trainer.run().dump());
  }

  TemporaryFolder folder_;
};

TEST_P(TrainingOnCuda, TheLossFallsInEitherPrecision) {
  for (const char* precision : {"float32", "bfloat16"}) {
    SCOPED_TRACE(precision);
    const std::string output = folder_ / precision;
    const json result = train(output, precision, /*resume=*/false, /*stop_at=*/-1, "[1, 2]");
    std::vector<double> losses;
    for (const json& line : testing::lines_of(output + "/metrics.jsonl")) {
      if (line.contains("loss")) losses.push_back(line["loss"].get<double>());
    }
    ASSERT_GE(losses.size(), 3u);
    EXPECT_LT(losses.back(), losses.front() / 2);
    EXPECT_GT(result["accuracy"].get<double>(), 0.9);
    // Weights stay float32 whatever their products are made of.
    for (const auto& [name, tensor] : read_safetensors(output + "/model.safetensors").tensors) {
      EXPECT_EQ(tensor.scalar_type(), at::kFloat) << name;
    }
  }
}

TEST_P(TrainingOnCuda, EqualSeedsGiveEqualBits) {
  train(folder_ / "a");
  train(folder_ / "b");
  expect_same_run(folder_ / "a", folder_ / "b", "/checkpoints/step_60");
}

TEST_P(TrainingOnCuda, AnInterruptedRunEndsInTheSameBits) {
  train(folder_ / "whole");
  for (const int64_t at : {0, 19, 33}) {  // the second one before an evaluation
    const std::string output = folder_ / concat("stopped_", at);
    EXPECT_THROW(train(output, "float32", /*resume=*/false, at), Interrupted);
    EXPECT_EQ(list_checkpoints(output), std::vector<int64_t>{at + 1});
    clear_stop_request();
    train(output, "float32", /*resume=*/true);
    expect_same_run(folder_ / "whole", output, "/checkpoints/step_60");
  }
}

INSTANTIATE_TEST_SUITE_P(All, TrainingOnCuda,
                         ::testing::ValuesIn(where_cuda_is<TrainingCase>(
                             {TrainingCase{"transformer", "name = \"transformer\"\nblocks = 2\n"},
                              TrainingCase{"transformer_dropout", "name = \"transformer\"\nblocks = 1\ndropout = 0.1\n"},
                              TrainingCase{"adatape",
                                           "name = \"adatape\"\nblocks = 2\ntape_ffn_width = 96\n[[model.readers]]\nbefore_block = 1\n"
                                           "max_tape_tokens = 4\nthreshold = 1.5\nrows_per_step = 2\n"},
                              TrainingCase{"universal_transformer", "name = \"universal_transformer\"\nmax_steps = 3\n"}})),
                         [](const auto& which) { return which.param.label; });

}  // namespace
}  // namespace adatape
