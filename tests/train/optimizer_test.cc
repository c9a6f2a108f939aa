#include "adatape/train/optimizer.h"

#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using testing::TinyModel;

// Algorithm 2 of arXiv 1711.05101 in float64, one parameter.
struct PlainAdamW {
  torch::Tensor value, first, second;
  int64_t steps = 0;
  explicit PlainAdamW(const torch::Tensor& start)
      : value(start.to(torch::kDouble).clone()), first(torch::zeros_like(value)), second(torch::zeros_like(value)) {}
  void step(const torch::Tensor& gradient, double rate, double decay) {
    ++steps;
    const torch::Tensor g = gradient.to(torch::kDouble);
    first = 0.9 * first + 0.1 * g;
    second = 0.99 * second + 0.01 * g * g;
    value = value * (1 - rate * decay);
    value = value - rate * (first / (1 - std::pow(0.9, steps))) / ((second / (1 - std::pow(0.99, steps))).sqrt() + 1e-8);
  }
};

void set_gradients(TinyModel& model, double scale) {
  model.embedding.mutable_grad() = torch::arange(1, 13, torch::kFloat).view({3, 4}) * scale;
  model.weight.mutable_grad() = -torch::arange(1, 9, torch::kFloat).view({2, 4}) * scale;
  model.bias.mutable_grad() = torch::tensor({0.5f, -2.0f}) * scale;
}

TEST(AdamW, FollowsTheFormulaAndDecaysMatricesOnly) {
  TinyModel model;
  model.initialize(1, 0);
  AdamW optimizer(model, {.beta1 = 0.9, .beta2 = 0.99, .weight_decay = 0.1});
  PlainAdamW embedding(model.embedding.detach()), bias(model.bias.detach());
  for (int i = 0; i < 5; ++i) {
    set_gradients(model, 1.0 + i);
    embedding.step(model.embedding.grad(), 0.01, 0.1);
    bias.step(model.bias.grad(), 0.01, 0);
    optimizer.step(0.01, optimizer.gradient_norm());
  }
  EXPECT_LT((model.embedding - embedding.value).abs().max().item<double>(), 1e-6);
  EXPECT_LT((model.bias - bias.value).abs().max().item<double>(), 1e-6);
}

TEST(AdamW, ClipsByTheNormOfAllGradients) {
  TinyModel model;
  set_gradients(model, 1);
  AdamW optimizer(model, {.clip_norm = 2});
  double squares = 0;
  for (const auto& [name, parameter] : model.named_parameters()) squares += parameter.grad().square().sum().item<double>();
  const torch::Tensor norm = optimizer.gradient_norm();
  EXPECT_NEAR(norm.item<double>(), std::sqrt(squares), 1e-4);
  optimizer.step(0.0, norm);
  EXPECT_NEAR(model.bias.grad()[1].item<double>(), -2 * 2 / std::sqrt(squares), 1e-5);
  EXPECT_NEAR(optimizer.gradient_norm().item<double>(), 2, 1e-4);

  set_gradients(model, 1e-3);  // short enough: untouched
  optimizer.step(0.0, optimizer.gradient_norm());
  EXPECT_EQ(model.bias.grad()[0].item<float>(), 0.5f * 1e-3f);
}

TEST(AdamW, AParameterWithoutGradientStands) {
  TinyModel model;
  model.initialize(1, 0);
  const torch::Tensor before = model.weight.detach().clone();
  AdamW optimizer(model, {.weight_decay = 0.1});
  set_gradients(model, 1);
  model.weight.mutable_grad().reset();
  optimizer.step(0.1, optimizer.gradient_norm());
  EXPECT_TRUE(model.weight.equal(before));
  EXPECT_EQ(optimizer.state().at("weight/step").item<float>(), 0);
  EXPECT_EQ(optimizer.state().at("bias/step").item<float>(), 1);
  optimizer.zero_grad();
  EXPECT_EQ(optimizer.gradient_norm().item<float>(), 0);
  optimizer.step(0.1, optimizer.gradient_norm());  // nothing to do
  EXPECT_EQ(optimizer.state().at("bias/step").item<float>(), 1);
}

TEST(AdamW, AGradientInAnotherLayoutIsUnderstood) {
  TinyModel model, same;
  AdamW optimizer(model, {}), expected(same, {});
  set_gradients(model, 1);
  set_gradients(same, 1);
  model.embedding.mutable_grad() = same.embedding.grad().t().contiguous().t();
  optimizer.step(0.1, optimizer.gradient_norm());
  expected.step(0.1, expected.gradient_norm());
  EXPECT_TRUE(model.embedding.equal(same.embedding));
  EXPECT_TRUE(optimizer.state().at("embedding/second_moment").equal(expected.state().at("embedding/second_moment")));
}

TEST(AdamW, GoesOnFromASavedState) {
  TinyModel one, two;
  one.initialize(1, 0);
  two.initialize(2, 0);
  AdamW first(one, {}), second(two, {});
  for (int i = 0; i < 3; ++i) {
    set_gradients(one, i + 1);
    first.step(0.01, first.gradient_norm());
  }
  std::map<std::string, at::Tensor> saved;
  for (const auto& [name, tensor] : first.state()) saved[name] = tensor.clone();
  {
    const torch::NoGradGuard no_grad;
    two.embedding.copy_(one.embedding);
    two.weight.copy_(one.weight);
    two.bias.copy_(one.bias);
  }
  second.load_state(saved, "optimizer.safetensors");
  set_gradients(one, 7);
  set_gradients(two, 7);
  first.step(0.01, first.gradient_norm());
  second.step(0.01, second.gradient_norm());
  EXPECT_TRUE(one.embedding.equal(two.embedding));
  EXPECT_TRUE(one.weight.equal(two.weight));
  EXPECT_TRUE(one.bias.equal(two.bias));

  saved.erase("bias/step");
  EXPECT_THAT(error_of([&] { second.load_state(saved, "optimizer.safetensors"); }),
              ::testing::HasSubstr("optimizer.safetensors: expected a tensor bias/step"));

  first.reset();
  for (const auto& [name, tensor] : first.state()) EXPECT_EQ(tensor.abs().sum().item<float>(), 0) << name;
}

}  // namespace
}  // namespace adatape
