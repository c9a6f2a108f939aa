// A mixture of 8 experts, of which 2 serve each token, against the dense feed-forward network of equal FLOPs (twice an expert's width).
//   build/release/adatape_benchmarks --benchmark_filter=moe_dense
#include "adatape/core/memory.h"
#include "adatape/nn/mixture_of_experts.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

// The mixture may take 1.3 times as long.
constexpr double kGoal = 1 / 1.3;

void moe_dense(benchmark::State& state, int64_t width, int64_t expert_width, int64_t examples, int64_t length, bool training) {
  keep_freed_memory();  // as the program does; the rival has it too
  at::manual_seed(0);
  at::Generator generator = parameter_generator(1, 1);
  MoeConfig config;
  config.experts = 8;
  config.noise = false;
  config.capacity = 0;  // nothing is dropped, so that both do the same work
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
  const auto pass = [&](const Module& module, const auto& forward) {
    at::AutoGradMode mode(training);
    for (const NamedParameter& parameter : module.named_parameters()) at::Tensor(parameter.tensor).mutable_grad() = at::Tensor();
    at::Tensor(x).mutable_grad() = at::Tensor();
    const at::Tensor out = forward();
    if (training) out.sum().backward();
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
  const std::string row = std::string("moe_dense_") + (training ? "training_" : "forward_") + std::to_string(width);
  time_side_by_side(state, [&] { pass(experts, [&] { return experts.forward(x, *layout, context, 0, ""); }); },
                    {{"dense", [&] { pass(dense, [&] { return dense.forward(x); }); }, row, kGoal}});
}

const bool kRegistered = [] {
  for (bool training : {false, true}) {
    for (const auto& [width, expert_width] : {std::pair<int64_t, int64_t>{128, 256}, {384, 768}}) {
      benchmark::RegisterBenchmark(
          ("moe_dense/" + std::string(training ? "training/" : "forward/") + std::to_string(width)).c_str(),
          [w = width, m = expert_width, training](benchmark::State& state) { moe_dense(state, w, m, 32, 196, training); })
          ->UseManualTime()
          ->Iterations(7)
          ->Unit(benchmark::kMillisecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace adatape
