// A mixture of 8 experts, of which 2 serve each token, against the dense feed-forward network of equal FLOPs (twice an expert's width).
// forward and training route all choices and nothing else, so that both sides do the same work; recipe is a training step as the library's
// defaults have it: noise, a capacity, importance and load losses.
//   build/release/adatape_benchmarks --benchmark_filter=moe_dense
#include <torch/csrc/autograd/autograd.h>

#include "adatape/core/memory.h"
#include "adatape/nn/mixture_of_experts.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

// The mixture may take 1.3 times as long.
constexpr double kGoal = 1 / 1.3;

enum class Pass { kForward, kTraining, kRecipe };

std::string name_of(Pass kind) { return kind == Pass::kForward ? "forward" : kind == Pass::kTraining ? "training" : "recipe"; }

// With all experts alike the answer is one expert's, times the two gates; so are the gradients, those of all experts together.
bool alike_experts_agree(const MoeConfig& config, const at::Tensor& x, int64_t expert_width, const std::vector<int64_t>& offsets,
                         at::Generator& generator, bool training) {
  MixtureOfExperts alike(config, x.size(1), expert_width, Gelu::kTanh);
  alike.initialize(generator);
  const std::vector<at::Tensor> experts{alike.expand_weight, alike.expand_bias, alike.contract_weight, alike.contract_bias};
  std::vector<at::Tensor> ours{x.detach().requires_grad_(training)}, plain{x.detach().requires_grad_(training)};
  MoeRouting routing;
  {
    const at::NoGradGuard no_grad;
    for (const at::Tensor& of_all : experts) {
      plain.push_back(of_all[0].clone());
      of_all.copy_(plain.back().unsqueeze(0).expand(of_all.sizes()));
      ours.push_back(of_all);
    }
    routing = route_tokens(alike.router->forward(x), offsets, {}, {});
  }
  for (size_t i = 1; i < plain.size(); ++i) plain[i].requires_grad_(training);
  const at::AutoGradMode mode(training);
  const at::Tensor got = alike.forward_routed(ours[0], routing);
  const at::Tensor one = at::linear(at::gelu(at::linear(plain[0], plain[1], plain[2]), "tanh"), plain[3], plain[4]);
  const at::Tensor expected = one * routing.chosen_gates.sum(1, true);
  if (!((got - expected).abs().max().item<double>() <= 1e-4)) return false;
  if (!training) return true;
  const at::Tensor grad = at::randn_like(x);
  const std::vector<at::Tensor> of_ours = torch::autograd::grad({got}, ours, {grad}),
                                of_plain = torch::autograd::grad({expected}, plain, {grad});
  for (size_t i = 0; i < of_plain.size(); ++i) {
    if (!(relative_difference(i == 0 ? of_ours[i] : of_ours[i].sum(0), of_plain[i]) <= 1e-4)) return false;
  }
  return true;
}

void moe_dense(benchmark::State& state, int64_t width, int64_t expert_width, int64_t examples, int64_t length, Pass kind) {
  keep_freed_memory();  // as the program does; the rival has it too
  at::manual_seed(0);
  at::Generator generator = parameter_generator(1, 1);
  const bool training = kind != Pass::kForward, recipe = kind == Pass::kRecipe;
  MoeConfig config;
  config.experts = 8;
  if (!recipe) {
    config.noise = false;
    config.capacity = 0;
  }
  MixtureOfExperts experts(config, width, expert_width, Gelu::kTanh);
  experts.initialize(generator);
  Mlp dense(width, config.top_k * expert_width, Gelu::kTanh);
  dense.initialize(generator);
  const auto layout = std::make_shared<const PackLayout>(std::vector<int64_t>(static_cast<size_t>(examples), length),
                                                         std::vector<TokenKind>{}, torch::kCPU);
  const at::Tensor x = at::randn({layout->total(), width}).requires_grad_(training);
  ForwardContext context;
  context.training = training;
  context.examples = at::arange(examples, at::kLong);
  std::vector<AuxiliaryLoss> losses;
  if (recipe) context.auxiliary_losses = &losses;
  const auto pass = [&](const Module& module, const auto& forward) {
    at::AutoGradMode mode(training);
    for (const NamedParameter& parameter : module.named_parameters()) at::Tensor(parameter.tensor).mutable_grad() = at::Tensor();
    at::Tensor(x).mutable_grad() = at::Tensor();
    const at::Tensor out = forward();
    if (!training) return;
    at::Tensor loss = out.sum();
    for (const AuxiliaryLoss& auxiliary : losses) {
      if (auxiliary.weight != 0) loss = loss + auxiliary.values.mean() * auxiliary.weight;
    }
    losses.clear();
    loss.backward();
  };
  if (!alike_experts_agree(config, x.detach(), expert_width, layout->offsets(), generator, training)) {
    state.SkipWithError("the answers differ");
    return;
  }
  const std::string row = "moe_dense_" + name_of(kind) + "_" + std::to_string(width);
  time_side_by_side(state, [&] { pass(experts, [&] { return experts.forward(x, *layout, context, 0, ""); }); },
                    {{"dense", [&] { pass(dense, [&] { return dense.forward(x); }); }, row, kGoal}});
}

const bool kRegistered = [] {
  for (const Pass kind : {Pass::kForward, Pass::kTraining, Pass::kRecipe}) {
    for (const auto& [width, expert_width] : {std::pair<int64_t, int64_t>{128, 256}, {384, 768}}) {
      benchmark::RegisterBenchmark(("moe_dense/" + name_of(kind) + "/" + std::to_string(width)).c_str(),
                                   [w = width, m = expert_width, kind](benchmark::State& state) { moe_dense(state, w, m, 32, 196, kind); })
          ->UseManualTime()
          ->Iterations(7)
          ->Unit(benchmark::kMillisecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace adatape
