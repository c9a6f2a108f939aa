#include "adatape/train/weight_average.h"

#include "test_run.h"

namespace adatape {
namespace {

using testing::TinyModel;

TEST(WeightAverageTest, FollowsTheWeights) {
  const torch::NoGradGuard no_grad;
  TinyModel model;
  model.initialize(1, 0);
  NamedTensors average = begin_average(model);
  const torch::Tensor first = model.weight.clone();
  EXPECT_TRUE(average.at("weight").equal(first));
  model.weight.fill_(3);
  EXPECT_TRUE(average.at("weight").equal(first));  // a copy
  update_average(average, model, 0.99, 0);         // (1 + 0) / (10 + 0) = 0.1
  EXPECT_TRUE(average.at("weight").allclose(0.1 * first + 0.9 * 3));
  const torch::Tensor second = average.at("weight").clone();
  update_average(average, model, 0.99, 100'000);
  EXPECT_TRUE(average.at("weight").allclose(0.99 * second + 0.01 * 3));
}

TEST(WeightAverageTest, StandsInForTheModelForAWhile) {
  const torch::NoGradGuard no_grad;
  TinyModel model;
  model.initialize(1, 0);
  NamedTensors average = begin_average(model), none;
  model.bias.fill_(7);
  const torch::Tensor averaged = average.at("bias").clone();
  {
    const AveragedModel stand_in(model, average);
    EXPECT_TRUE(model.bias.equal(averaged));
  }
  EXPECT_TRUE(model.bias.equal(torch::full({2}, 7.0f)));
  EXPECT_TRUE(average.at("bias").equal(averaged));
  const AveragedModel nothing(model, none);
  EXPECT_TRUE(model.bias.equal(torch::full({2}, 7.0f)));
}

}  // namespace
}  // namespace adatape
