// A stack of encoder blocks on packed mixed lengths, against the same blocks on each length alone (ideal: their times together, where
// packing has nothing to do), and against plain dense ATen calls, likewise by length (dense) and padded to the longest with a mask
// (padded). On a CUDA device also in bfloat16 at B/16's width, where the rivals' plain calls run in bfloat16 too.
//   build/release/adatape_benchmarks --benchmark_filter=packed_encoder
#include <map>

#include "adatape/core/device.h"
#include "adatape/core/memory.h"
#include "adatape/nn/encoder_block.h"
#include "adatape/nn/mixed_precision.h"
#include "adatape/ops/cuda_architecture.h"
#include "adatape/ops/plain_calls.h"
#include "benchmarks/answers.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

struct Stack {
  torch::Device device = torch::kCPU;
  torch::Dtype products = torch::kFloat;
  int64_t width = 384, heads = 6, blocks = 2, examples = 32;
  double tolerance = 1e-5;  // of relative differences
  Timing timing = {};
  std::string row = {};  // what its rows' names have at the end
};

std::shared_ptr<const PackLayout> layout_on(torch::Device device, const std::vector<int64_t>& lengths) {
  return std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, device);
}

// The same blocks as dense plain calls on [B, length, D]; mask [B, 1, 1, length] or none.
at::Tensor dense_stack(const std::vector<std::shared_ptr<EncoderBlock>>& blocks, int64_t heads, at::Tensor x,
                       const std::optional<at::Tensor>& mask) {
  const ops::PlainCalls plain;
  const int64_t batch = x.size(0), length = x.size(1);
  for (const auto& block : blocks) {
    const at::Tensor qkv =
        at::linear(block->attention_norm->forward(x), block->qkv->weight, block->qkv->bias).view({batch, length, 3, heads, -1});
    const at::Tensor attended = at::scaled_dot_product_attention(qkv.select(2, 0).transpose(1, 2), qkv.select(2, 1).transpose(1, 2),
                                                                 qkv.select(2, 2).transpose(1, 2), mask)
                                    .transpose(1, 2)
                                    .reshape({batch, length, -1});
    const at::Tensor middle = x + at::linear(attended, block->output->weight, block->output->bias);
    const Linear &expand = *block->feed_forward->expand, &contract = *block->feed_forward->contract;
    const at::Tensor wide = at::gelu(at::linear(block->feed_forward_norm->forward(middle), expand.weight, expand.bias), "tanh");
    x = middle + at::linear(wide, contract.weight, contract.bias);
  }
  return x;
}

void packed_encoder(benchmark::State& state, const Stack& stack, const std::string& name, const std::vector<int64_t>& lengths,
                    bool training) {
  keep_freed_memory();  // as the program does; rivals have it too
  if (stack.device.is_cuda() && !ops::has_cuda_kernels_on(stack.device)) {
    state.SkipWithError("the CUDA kernels do not serve this");
    return;
  }
  at::manual_seed(0);
  at::Generator generator = parameter_generator(1, 1);
  std::vector<std::shared_ptr<EncoderBlock>> blocks;
  for (int64_t i = 0; i < stack.blocks; ++i) {
    blocks.push_back(std::make_shared<EncoderBlock>(
        EncoderBlockShape{.width = stack.width, .heads = stack.heads, .ffn_width = 4 * stack.width, .gelu = Gelu::kTanh}));
    blocks.back()->initialize(generator);
    blocks.back()->to(stack.device);
  }
  const auto layout = layout_on(stack.device, lengths);
  const PackedTokens mixed{at::randn({layout->total(), stack.width}).to(stack.device), layout};
  const int64_t batch = layout->batch(), longest = layout->longest();

  std::map<int64_t, std::vector<at::Tensor>> by_length;
  at::Tensor padded = at::zeros({batch, longest, stack.width}, mixed.values.options());
  at::Tensor mask = at::zeros({batch, 1, 1, longest}, mixed.values.options().dtype(at::kBool));
  for (int64_t b = 0; b < batch; ++b) {
    const at::Tensor example = mixed.values.narrow(0, layout->offsets()[b], lengths[b]);
    by_length[lengths[b]].push_back(example);
    padded[b].narrow(0, 0, lengths[b]).copy_(example);
    mask[b].narrow(2, 0, lengths[b]).fill_(true);
  }
  std::vector<at::Tensor> alone;  // [examples of this length, length, D]
  std::vector<PackedTokens> alone_packed;
  for (const auto& [length, examples] : by_length) {
    alone.push_back(at::stack(examples));
    alone_packed.push_back({at::cat(examples), layout_on(stack.device, std::vector<int64_t>(examples.size(), length))});
  }

  const auto packed_forward = [&](PackedTokens x) {
    for (int64_t i = 0; i < stack.blocks; ++i) x = blocks[i]->forward(x, {}, i);
    return x.values;
  };
  // A training pass begins without gradients, as after an optimizer's step; the ideal's lengths add theirs up.
  const auto begin = [&] {
    for (const auto& block : blocks) {
      for (const NamedParameter& parameter : block->named_parameters()) at::Tensor(parameter.tensor).mutable_grad() = at::Tensor();
    }
  };
  const auto dense_forward = [&](const at::Tensor& x, const std::optional<at::Tensor>& of) {
    return dense_stack(blocks, stack.heads, x, of);
  };
  const auto in_stack_precision = [&](const std::function<at::Tensor()>& forward) {
    const MixedPrecision precision(stack.products, stack.device);
    return forward();
  };
  const auto finish = [&](const std::function<at::Tensor()>& forward) {
    const at::Tensor out = in_stack_precision(forward);
    if (training) out.sum().backward();
  };
  const auto timed = [&](std::function<void()> passes) -> std::function<void()> {
    const auto call = [&begin, &stack, passes, training](int64_t) {
      const at::AutoGradMode mode(training);
      // Weights are rounded to bfloat16 once a pass, however many lengths it takes one after the other.
      const MixedPrecision precision(stack.products, stack.device);
      begin();
      passes();
    };
    if (stack.device.is_cuda()) return many_on_device(stack.device, stack.timing.calls, call);
    return [call] { call(0); };
  };
  const auto ours = timed([&] { finish([&] { return packed_forward(mixed); }); });
  const auto ideal = timed([&] {
    for (const PackedTokens& one : alone_packed) finish([&] { return packed_forward(one); });
  });
  const auto dense = timed([&] {
    for (const at::Tensor& one : alone) finish([&] { return dense_forward(one, std::nullopt); });
  });
  const auto padding = timed([&] { finish([&] { return dense_forward(padded, mask); }); });
  if (!training) {
    for (const auto& block : blocks) block->pack_for_inference(torch::kFloat);
  }
  {
    const at::NoGradGuard no_grad;
    const at::Tensor expected = dense_forward(padded, mask), got = in_stack_precision([&] { return packed_forward(mixed); });
    for (int64_t b = 0; b < batch; ++b) {
      const int64_t first = layout->offsets()[b];
      // What the blocks add: beside the tokens themselves an error would look small.
      const at::Tensor before = mixed.values.narrow(0, first, lengths[b]);
      if (!(relative_difference(got.narrow(0, first, lengths[b]) - before, expected[b].narrow(0, 0, lengths[b]) - before) <=
            stack.tolerance)) {
        state.SkipWithError("the answers differ");
        return;
      }
    }
  }
  if (training) {  // after a pass of each: the gradients of the first block's projections, the last to be made
    const at::AutoGradMode mode(true);
    const at::Tensor factors = at::linspace(-1, 1, stack.width).to(stack.device);
    const auto gradient = [&](const at::Tensor& out) {
      begin();
      (out * factors).sum().backward();
      return blocks[0]->qkv->weight.grad().clone();
    };
    const at::Tensor got = gradient(in_stack_precision([&] { return packed_forward(mixed); }));
    const at::Tensor real = mask.squeeze(1).squeeze(1).unsqueeze(2).to(at::kFloat);
    if (!(relative_difference(got, gradient(dense_forward(padded, mask) * real)) <= 10 * stack.tolerance)) {
      state.SkipWithError("the gradients differ");
      return;
    }
  }
  const double fill = static_cast<double>(mixed.layout->total()) / static_cast<double>(batch * longest);
  const std::string kind = (training ? "_training_" : "_forward_") + name + stack.row;
  time_side_by_side(state, ours,
                    {{"ideal", ideal, "packed_encoder_ideal" + kind, 0.95},
                     {"padded", padding, "packed_encoder_padded" + kind, 0.9 / fill},
                     {"dense", dense}},
                    stack.timing);
  state.counters["fill"] = fill;
}

void register_stack(const Stack& stack) {
  std::vector<int64_t> spread, tape;
  for (int64_t b = 0; b < stack.examples; ++b) {
    spread.push_back(49 * (1 + b % 4));   // 49 .. 196 tokens
    tape.push_back(196 + 2 + b * 5 % 9);  // 196 tokens and 2 .. 10 tape tokens
  }
  for (bool training : {false, true}) {
    const std::string kind = "packed_encoder" + stack.row + (training ? "/training/" : "/forward/");
    for (const auto& [name, lengths] : {std::pair<std::string, std::vector<int64_t>>{"spread", spread}, {"tape", tape}}) {
      benchmark::RegisterBenchmark((kind + name).c_str(),
                                   [stack, name = name, lengths = lengths, training](benchmark::State& state) {
                                     packed_encoder(state, stack, name, lengths, training);
                                   })
          ->UseManualTime()
          ->Iterations(7)
          ->Unit(benchmark::kMillisecond);
    }
  }
}

const bool kRegistered = [] {
  register_stack({});
  if (parse_device("auto").is_cuda()) {
    register_stack({.device = torch::Device(torch::kCUDA, 0),
                    .products = torch::kBFloat16,
                    .width = 768,
                    .heads = 12,
                    .examples = 256,
                    .tolerance = 2e-2,
                    .timing = {.wall = true, .calls = 10},
                    .row = "_cuda_bf16"});
  }
  return true;
}();

}  // namespace
}  // namespace adatape
