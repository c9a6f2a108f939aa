// Each family learns a small task in a short run of plain steps: what says that gradients point the right way.
#include <ATen/Parallel.h>

#include <cmath>

#include "model_cases.h"

namespace adatape {
namespace {

struct LearningCase {
  std::string label, model, keys;
  bool parity = false;  // of the symbols that are 1, on sequences of length 4; else the first symbol
  friend void PrintTo(const LearningCase& one, std::ostream* stream) { *stream << one.label; }
};

class Learning : public ::testing::TestWithParam<LearningCase> {};

torch::Tensor labels_of(const Batch& batch, bool parity) {
  const torch::Tensor symbols = batch.symbols.view({batch.size(), -1});
  return parity ? symbols.eq(1).sum(1).remainder(2) : symbols.select(1, 0).eq(1).to(torch::kInt64);
}

TEST_P(Learning, AShortRunLearns) {
  at::set_num_threads(1);  // tensors this small gain nothing from more
  const int64_t length = 4;
  InputSpec spec = testing::symbol_spec(length, 2);
  spec.vocabulary = 3;
  const auto model = testing::make_model(GetParam().model, GetParam().keys, spec);
  model->initialize(1, 0);
  // Adam by hand: this layer knows no optimizer.
  struct Moments {
    torch::Tensor parameter, mean, square;
  };
  std::vector<Moments> moments;
  for (const NamedParameter& one : model->named_parameters()) {
    moments.push_back({one.tensor, torch::zeros_like(one.tensor).detach(), torch::zeros_like(one.tensor).detach()});
  }
  ForwardOptions options;
  options.training = true;
  for (int step = 1; step <= 150; ++step) {
    const Batch batch = testing::symbol_batch(std::vector<int64_t>(64, length), 3, static_cast<uint32_t>(step));
    options.step = static_cast<uint64_t>(step);
    const ModelOutput output = model->forward(batch, options);
    torch::Tensor loss = at::cross_entropy_loss(output.logits, labels_of(batch, GetParam().parity));
    for (const AuxiliaryLoss& auxiliary : output.auxiliary_losses) loss = loss + auxiliary.weight * auxiliary.values.mean();
    for (Moments& one : moments) one.parameter.mutable_grad() = torch::Tensor();
    loss.backward();
    torch::NoGradGuard no_grad;
    for (Moments& one : moments) {
      const torch::Tensor gradient = one.parameter.grad();
      if (!gradient.defined()) continue;
      one.mean.mul_(0.9).add_(gradient, 0.1);
      one.square.mul_(0.99).addcmul_(gradient, gradient, 0.01);
      const double rate = 1e-2 * std::sqrt(1 - std::pow(0.99, step)) / (1 - std::pow(0.9, step));
      one.parameter.data().addcdiv_(one.mean, one.square.sqrt().add_(1e-8), -rate);
    }
  }
  torch::NoGradGuard no_grad;
  const Batch held_out = testing::symbol_batch(std::vector<int64_t>(500, length), 3, 12345);
  const torch::Tensor right = model->forward(held_out, {}).logits.argmax(1).eq(labels_of(held_out, GetParam().parity));
  EXPECT_GE(right.to(torch::kFloat).mean().item<double>(), 0.99);
}

const std::vector<LearningCase>& learning_cases() {
  const std::string small = "width = 16\nheads = 4\nffn_width = 32\n";
  static const std::vector<LearningCase> cases = {
      {"transformer", "transformer", small},
      {"adatape", "adatape",
       small + "blocks = 1\ninput = \"class_token\"\nclass_token_start = \"normal\"\npooling = \"token\"\nponder_weight = 0.0\n"
               "[[readers]]\nbefore_block = 0\nmax_tape_tokens = 2\nthreshold = 1.0\nkey_split = 8\n",
       true},
      {"universal_transformer", "universal_transformer", small + "max_steps = 3\n"},
      {"universal_transformer_per_example", "universal_transformer",
       small + "max_steps = 3\nhalting = \"per_example\"\noutput = \"basic\"\n"},
      {"act_rnn", "act_rnn", "width = 16\ncell = \"gru\"\n", true},
      {"pondernet", "pondernet", small + "step = \"transformer\"\nmax_steps = 4\n"},
      {"u2t", "u2t", small + "max_steps = 3\n"},
  };
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, Learning, ::testing::ValuesIn(learning_cases()), [](const auto& which) { return which.param.label; });

}  // namespace
}  // namespace adatape
