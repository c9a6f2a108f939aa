#include "model_cases.h"

namespace adatape {
namespace {

// A halting probability that rounding makes 1 ends an element's computation at its first step, also where epsilon is 0: the bound belongs
// to the rule of arXiv 1603.08983.
TEST(ActRnnTest, HaltsAtTheBoundItself) {
  torch::NoGradGuard no_grad;
  const auto model = testing::make_model("act_rnn", "width = 8\nmax_steps = 5\nepsilon = 0\n", testing::vector_spec());
  model->initialize(1, 1);
  for (const NamedParameter& parameter : model->named_parameters()) {
    if (parameter.name == "halting.weight") parameter.tensor.zero_();
    if (parameter.name == "halting.bias") parameter.tensor.fill_(100);
  }
  ForwardOptions recording;
  recording.record = true;
  const ModelOutput output = model->forward(testing::vector_batch({3, 1}, 5, 1), recording);
  EXPECT_TRUE(output.intermediates.at("steps").to(torch::kInt64).eq(1).all().item<bool>()) << output.intermediates.at("steps");
}

// Two elements by hand: s_n = tanh(x + [n = 1] / 2 + s_{n-1}), h_n = sigmoid(s_n - 0.8), epsilon 0.01.
//   x 0.4, from 0:          s 0.716298, 0.806277, 0.835559;            h 0.479087, 0.501569, 0.508889;            N 3, R 1 - 0.980656
//   x -0.7, from 0.763736:  s 0.510744, -0.187028, -0.709923, -0.887478; h 0.428186, 0.271499, 0.180950, 0.156108; N 4, R 1 - 0.880636
TEST(ActRnnTest, ASequenceByHand) {
  const auto model = testing::make_model("act_rnn", "cell = \"rnn\"\nwidth = 1\nmax_steps = 5\nepsilon = 0.01\n",
                                         testing::answering_each(testing::vector_spec()));
  Batch batch = testing::vector_batch({2}, 5, 1);
  {
    const torch::NoGradGuard no_grad;
    for (const NamedParameter& parameter : model->named_parameters()) {
      parameter.tensor.zero_();
      if (parameter.name == "cell.weight_ih") parameter.tensor[0][0] = 1, parameter.tensor[0][5] = 0.5;
      if (parameter.name == "cell.weight_hh" || parameter.name == "halting.weight") parameter.tensor[0][0] = 1;
      if (parameter.name == "halting.bias") parameter.tensor[0] = -0.8;
      if (parameter.name == "output.weight") parameter.tensor[0][0] = 1;
    }
    batch.vectors[0][0] = 0.4;
    batch.vectors[1][0] = -0.7;
  }
  const ModelOutput output = model->forward(batch, {.training = true, .record = true});
  const auto number = [](const torch::Tensor& x) { return x.item<double>(); };
  const auto of = [&](const char* name) { return output.intermediates.at(name)[0]; };
  EXPECT_EQ(number(of("steps")[0]), 3);
  EXPECT_EQ(number(of("steps")[1]), 4);
  EXPECT_NEAR(number(of("remainders")[0]), 0.019344, 2e-6);
  EXPECT_NEAR(number(of("remainders")[1]), 0.119364, 2e-6);
  EXPECT_NEAR(number(of("step_weights")[1][2]), 0.180950, 2e-6);
  EXPECT_NEAR(number(output.logits[0][0]), 0.763736, 2e-6);  // the mean of the states by these weights, which the next element goes on from
  EXPECT_NEAR(number(output.logits[1][0]), -0.066479, 2e-6);
  ASSERT_EQ(output.auxiliary_losses.size(), 1u);
  EXPECT_NEAR(number(output.auxiliary_losses[0].values[0]), 3 + 0.019344 + 4 + 0.119364, 4e-6);
}

}  // namespace
}  // namespace adatape
