#include "adatape/train/gradients.h"

#include <ATen/Parallel.h>

#include "adatape/core/files.h"
#include "adatape/models/registry.h"
#include "test_run.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

class GradientsTest : public ::testing::Test {
 protected:
  GradientsTest() : config_(RunConfig::from_document(ConfigDocument::from_file(ADATAPE_SOURCE_DIR "/configs/parity/adatape.toml"))) {
    task_ = find_task(config_.task->name).make_task(*config_.task);
    model_ = find_model(config_.model->name).make_model(*config_.model, task_->input_spec());
    model_->initialize(1, 0);
    for (const NamedParameter& parameter : model_->named_parameters()) {  // the classifier starts at 0 and would leave no gradient
      if (parameter.name.find("classifier") != std::string::npos) parameter.tensor.data().fill_(0.1).flatten().narrow(0, 0, 1).fill_(-0.3);
    }
  }
  BatchGradients of(int64_t parts, double share = 1) {
    return gradients_of(*model_, *task_, task_->training_batch(3, 5, 33), {.training = true, .seed = 3, .step = 5}, share, parts);
  }
  RunConfig config_;
  std::unique_ptr<Task> task_;
  std::shared_ptr<Model> model_;
};

TEST_F(GradientsTest, PartsGiveTheGradientsOfTheWhole) {
  const BatchGradients whole = of(1);
  for (const int64_t parts : {2, 3, 33, 100}) {
    const BatchGradients split = of(parts), again = of(parts);
    ASSERT_EQ(split.losses.size(), whole.losses.size());
    for (size_t i = 0; i < whole.losses.size(); ++i) {
      EXPECT_EQ(split.losses[i].first, whole.losses[i].first);
      EXPECT_NEAR(split.losses[i].second.item<double>(), whole.losses[i].second.item<double>(), 1e-5);
    }
    int64_t defined = 0;
    for (size_t p = 0; p < whole.gradients.size(); ++p) {
      ASSERT_EQ(split.gradients[p].defined(), whole.gradients[p].defined()) << p;
      if (!whole.gradients[p].defined()) continue;
      ++defined;
      EXPECT_LT((split.gradients[p] - whole.gradients[p]).abs().max().item<double>(), 1e-5) << p;
      EXPECT_TRUE(at::equal(split.gradients[p], again.gradients[p])) << "the same bits in every run";
    }
    EXPECT_GT(defined, 10);
  }
}

TEST(CountsTest, BecomeShares) {
  EXPECT_EQ(auxiliary_key("ponder"), "ponder_loss");
  for (const std::string name : {"ponder_steps", "dropped_choices", "unserved_tokens"}) EXPECT_EQ(auxiliary_key(name), name);
  std::map<std::string, double> numbers = {
      {"loss", 2}, {"dropped_choices", 3}, {"expert_choices", 12}, {"unserved_tokens", 0}, {"expert_tokens", 0}};
  counts_to_shares(numbers);
  EXPECT_EQ(numbers, (std::map<std::string, double>{{"loss", 2}, {"dropped_share", 0.25}, {"unserved_share", 0}}));
}

TEST_F(GradientsTest, ShareScales) {
  const BatchGradients whole = of(1), half = of(1, 0.5);
  EXPECT_NEAR(half.losses.back().second.item<double>(), whole.losses.back().second.item<double>() / 2, 1e-6);
}

TEST_F(GradientsTest, AnErrorInAPartIsToldAsUsual) {
  Batch batch = task_->training_batch(3, 5, 33);
  batch.symbols[40] = 77;
  try {
    gradients_of(*model_, *task_, batch, {}, 1, 4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("77"));
  }
}

TEST_F(GradientsTest, Parts) {
  const int64_t threads = at::get_num_threads();
  TrainingConfig training;
  EXPECT_EQ(parallel_parts(training, *model_, 1000, at::kCPU), threads);
  EXPECT_EQ(parallel_parts(training, *model_, 16, at::kCPU), 1);
  EXPECT_EQ(parallel_parts(training, *model_, 1000, at::kCUDA), 1);
  training.parallel = "operators";
  EXPECT_EQ(parallel_parts(training, *model_, 1000, at::kCPU), 1);
  training.parallel = "examples";
  EXPECT_EQ(parallel_parts(training, *model_, 1, at::kCPU), 1);
}

}  // namespace
}  // namespace adatape
