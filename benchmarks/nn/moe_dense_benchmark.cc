// A mixture of 8 experts, of which 2 serve each token, against the dense feed-forward network of equal FLOPs (twice an expert's width).
// forward and training route all choices and nothing else, so that both sides do the same work; recipe is a training step as the library's
// defaults have it: noise, a capacity, importance and load losses.
//   build/release/adatape_benchmarks --benchmark_filter=moe_dense
#include "adatape/core/memory.h"
#include "adatape/nn/mixture_of_experts.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

// The mixture may take 1.3 times as long.
constexpr double kGoal = 1 / 1.3;

enum class Pass { kForward, kTraining, kRecipe };

std::string name_of(Pass kind) { return kind == Pass::kForward ? "forward" : kind == Pass::kTraining ? "training" : "recipe"; }

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
  {
    // With all experts alike the answer is one expert's, times the two gates.
    at::NoGradGuard no_grad;
    MixtureOfExperts alike(config, width, expert_width, Gelu::kTanh);
    alike.initialize(generator);
    for (at::Tensor* parameter : {&alike.expand_weight, &alike.expand_bias, &alike.contract_weight, &alike.contract_bias})
      parameter->copy_((*parameter)[0].unsqueeze(0).expand(parameter->sizes()).clone());
    const MoeRouting routing = route_tokens(alike.router->forward(x), layout->offsets(), {}, {});
    const at::Tensor one = at::linear(at::gelu(at::linear(x, alike.expand_weight[0], alike.expand_bias[0]), "tanh"),
                                      alike.contract_weight[0], alike.contract_bias[0]);
    if ((alike.forward_routed(x, routing) - one * routing.chosen_gates.sum(1, true)).abs().max().item<double>() > 1e-4) {
      state.SkipWithError("the answers differ");
      return;
    }
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
