#include "adatape/train/run_folder.h"

#include "adatape/core/safetensors.h"
#include "adatape/models/registry.h"
#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::tiny_config;

class RunFolderTest : public ::testing::Test {
 protected:
  RunFolderTest() : config_(tiny_config({"model.width=8", "model.heads=2"})) {
    write_file_atomically(folder_ / "config.toml", config_.to_toml());
    model_ = find_model(config_.model->name).make_model(*config_.model, config_.task->input_spec());
    model_->initialize(5, 0);
    tensors_ = parameters_of(*model_);
    save();
  }
  void save() { write_safetensors(weights_path(), tensors_); }
  std::string weights_path() const { return folder_ / "model.safetensors"; }
  std::string error(const std::vector<std::string>& overrides = {}) {
    return error_of([&] { load_run(folder_.path(), overrides, at::kCPU); });
  }

  TemporaryFolder folder_;
  RunConfig config_;
  std::shared_ptr<Model> model_;
  NamedTensors tensors_;
};

TEST_F(RunFolderTest, LoadsTheWeights) {
  const LoadedRun run = load_run(folder_.path(), {"evaluation.batch_size=7"}, at::kCPU);
  EXPECT_EQ(run.config.evaluation.batch_size, 7);
  const auto loaded = parameters_of(*run.model);
  ASSERT_EQ(loaded.size(), tensors_.size());
  for (const auto& [name, tensor] : tensors_) EXPECT_TRUE(loaded.at(name).equal(tensor)) << name;
  EXPECT_NE(run.task, nullptr);
  EXPECT_EQ(load_run(folder_.path(), {}, at::kCPU, false).task, nullptr);
}

TEST_F(RunFolderTest, NamesTheTensorThatIsWrong) {
  const auto [name, tensor] = *tensors_.begin();
  tensors_[name] = torch::cat({tensor, tensor});
  save();
  EXPECT_THAT(error(), AllOf(HasSubstr(weights_path()), HasSubstr("tensor " + name + ": expected shape")));

  tensors_[name] = tensor.clone();
  tensors_[name].view(-1)[0] = std::nan("");
  save();
  EXPECT_THAT(error(), HasSubstr("tensor " + name + ": expected finite values"));

  tensors_[name] = tensor.to(torch::kLong);
  save();
  EXPECT_THAT(error(), HasSubstr("tensor " + name + ": expected dtype float, got"));

  tensors_.erase(name);
  save();
  EXPECT_THAT(error(), HasSubstr("expected a tensor " + name));

  tensors_[name] = tensor;
  tensors_["surplus"] = tensor;
  save();
  EXPECT_THAT(error(), HasSubstr("tensor surplus"));
}

TEST_F(RunFolderTest, OverridesThatChangeShapesAreRefused) {
  EXPECT_THAT(error({"model.width=16"}), AllOf(HasSubstr("expected shape"), HasSubstr("tensor ")));
  EXPECT_THAT(error({"model.widht=16"}), HasSubstr("model.width"));
}

TEST_F(RunFolderTest, SaysWhatAFolderLacks) {
  EXPECT_THAT(error_of([&] { load_run(folder_ / "nowhere", {}, at::kCPU); }),
              HasSubstr("expected a run or model folder, found nothing there"));
  EXPECT_THAT(error_of([&] { load_run(weights_path(), {}, at::kCPU); }), HasSubstr("found a file"));
  fs::remove(weights_path());
  EXPECT_THAT(error(), HasSubstr("model.safetensors is missing"));
  fs::remove(folder_ / "config.toml");
  EXPECT_THAT(error(), HasSubstr("config.toml is missing"));
}

TEST_F(RunFolderTest, ReadsHalfPrecision) {
  for (auto& [name, tensor] : tensors_) tensor = tensor.to(torch::kBFloat16);
  save();
  const LoadedRun run = load_run(folder_.path(), {}, at::kCPU);
  const auto loaded = parameters_of(*run.model);
  for (const auto& [name, tensor] : tensors_) EXPECT_TRUE(loaded.at(name).equal(tensor.to(torch::kFloat))) << name;
}

}  // namespace
}  // namespace adatape
