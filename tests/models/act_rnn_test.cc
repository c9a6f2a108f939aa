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

}  // namespace
}  // namespace adatape
