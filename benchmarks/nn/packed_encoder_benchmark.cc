// A stack of encoder blocks on packed mixed lengths, against the same blocks on each length alone (ideal: their times together, where
// packing has nothing to do), and against plain dense ATen calls, likewise by length (dense) and padded to the longest with a mask
// (padded).
//   build/release/adatape_benchmarks --benchmark_filter=packed_encoder
#include <map>

#include "adatape/core/memory.h"
#include "adatape/nn/encoder_block.h"
#include "adatape/ops/plain_calls.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

PackedTokens pack_of(const std::vector<int64_t>& lengths, int64_t width) {
  auto layout = std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, torch::kCPU);
  return {at::randn({layout->total(), width}), layout};
}

constexpr int64_t kWidth = 384, kHeads = 6, kBlocks = 2;

// The same blocks as dense plain calls on [B, length, D]; mask [B, 1, 1, length] or none.
at::Tensor dense_stack(const std::vector<std::shared_ptr<EncoderBlock>>& blocks, at::Tensor x, const std::optional<at::Tensor>& mask) {
  const ops::PlainCalls plain;
  const int64_t batch = x.size(0), length = x.size(1);
  for (const auto& block : blocks) {
    const at::Tensor qkv =
        at::linear(block->attention_norm->forward(x), block->qkv->weight, block->qkv->bias).view({batch, length, 3, kHeads, -1});
    const at::Tensor attended = at::scaled_dot_product_attention(qkv.select(2, 0).transpose(1, 2), qkv.select(2, 1).transpose(1, 2),
                                                                 qkv.select(2, 2).transpose(1, 2), mask)
                                    .transpose(1, 2)
                                    .reshape({batch, length, -1});
    const at::Tensor middle = x + at::linear(attended, block->output->weight, block->output->bias);
    x = middle + block->feed_forward->forward(block->feed_forward_norm->forward(middle));
  }
  return x;
}

void packed_encoder(benchmark::State& state, const std::string& name, const std::vector<int64_t>& lengths, bool training) {
  keep_freed_memory();  // as the program does; rivals have it too
  at::manual_seed(0);
  at::Generator generator = parameter_generator(1, 1);
  std::vector<std::shared_ptr<EncoderBlock>> blocks;
  for (int64_t i = 0; i < kBlocks; ++i) {
    blocks.push_back(std::make_shared<EncoderBlock>(EncoderBlockShape{.width = kWidth, .heads = kHeads, .ffn_width = 4 * kWidth}));
    blocks.back()->initialize(generator);
  }
  const PackedTokens mixed = pack_of(lengths, kWidth);
  const int64_t batch = static_cast<int64_t>(lengths.size()), longest = mixed.layout->longest();

  std::map<int64_t, std::vector<at::Tensor>> by_length;
  at::Tensor padded = at::zeros({batch, longest, kWidth}), mask = at::zeros({batch, 1, 1, longest}, at::kBool);
  for (int64_t b = 0; b < batch; ++b) {
    const at::Tensor example = mixed.values.narrow(0, mixed.layout->offsets()[b], lengths[b]);
    by_length[lengths[b]].push_back(example);
    padded[b].narrow(0, 0, lengths[b]).copy_(example);
    mask[b].narrow(2, 0, lengths[b]).fill_(true);
  }
  std::vector<at::Tensor> alone;  // [examples of this length, length, D]
  std::vector<PackedTokens> alone_packed;
  for (const auto& [length, examples] : by_length) {
    alone.push_back(at::stack(examples));
    alone_packed.push_back({at::cat(examples), std::make_shared<const PackLayout>(std::vector<int64_t>(examples.size(), length),
                                                                                  std::vector<TokenKind>{}, torch::kCPU)});
  }

  const auto packed_forward = [&](PackedTokens x) {
    for (int64_t i = 0; i < kBlocks; ++i) x = blocks[i]->forward(x, {}, i);
    return x.values;
  };
  // A training pass begins without gradients, as after an optimizer's step; the ideal's lengths add theirs up.
  const auto begin = [&] {
    for (const auto& block : blocks) {
      for (const NamedParameter& parameter : block->named_parameters()) at::Tensor(parameter.tensor).mutable_grad() = at::Tensor();
    }
  };
  const auto finish = [&](const at::Tensor& out) {
    if (training) out.sum().backward();
  };
  const auto ours = [&] {
    at::AutoGradMode mode(training);
    begin();
    finish(packed_forward(mixed));
  };
  const auto ideal = [&] {
    at::AutoGradMode mode(training);
    begin();
    for (const PackedTokens& one : alone_packed) finish(packed_forward(one));
  };
  const auto dense = [&] {
    at::AutoGradMode mode(training);
    begin();
    for (const at::Tensor& one : alone) finish(dense_stack(blocks, one, std::nullopt));
  };
  const auto padding = [&] {
    at::AutoGradMode mode(training);
    begin();
    finish(dense_stack(blocks, padded, mask));
  };
  if (!training) {
    for (const auto& block : blocks) block->pack_for_inference(torch::kFloat);
  }
  {
    at::NoGradGuard no_grad;
    const at::Tensor expected = dense_stack(blocks, padded, mask), got = packed_forward(mixed);
    for (int64_t b = 0; b < batch; ++b) {
      const at::Tensor difference = got.narrow(0, mixed.layout->offsets()[b], lengths[b]) - expected[b].narrow(0, 0, lengths[b]);
      if (!(difference.abs().max().item<double>() <= 1e-4)) {
        state.SkipWithError("the answers differ");
        return;
      }
    }
  }
  if (training) {  // after a pass of each: the gradients of the first block's projections, the last to be made
    at::AutoGradMode mode(true);
    const auto gradient = [&](const at::Tensor& out) {
      begin();
      (out * at::linspace(-1, 1, kWidth)).sum().backward();
      return blocks[0]->qkv->weight.grad().clone();
    };
    const at::Tensor got = gradient(packed_forward(mixed)), real = mask.squeeze(1).squeeze(1).unsqueeze(2).to(at::kFloat);
    const at::Tensor expected = gradient(dense_stack(blocks, padded, mask) * real);
    if (!((got - expected).norm().item<double>() <= 1e-4 * expected.norm().item<double>())) {
      state.SkipWithError("the gradients differ");
      return;
    }
  }
  const double fill = static_cast<double>(mixed.layout->total()) / static_cast<double>(batch * longest);
  const std::string kind = (training ? "_training_" : "_forward_") + name;
  time_side_by_side(state, ours,
                    {{"ideal", ideal, "packed_encoder_ideal" + kind, 0.95},
                     {"padded", padding, "packed_encoder_padded" + kind, 0.9 / fill},
                     {"dense", dense}});
  state.counters["fill"] = fill;
}

const bool kRegistered = [] {
  std::vector<int64_t> spread, tape;
  for (int64_t b = 0; b < 32; ++b) spread.push_back(49 * (1 + b % 4));   // 49 .. 196 tokens
  for (int64_t b = 0; b < 32; ++b) tape.push_back(196 + 2 + b * 5 % 9);  // 196 tokens and 2 .. 10 tape tokens
  for (bool training : {false, true}) {
    const std::string kind = training ? "training/" : "forward/";
    for (const auto& [name, lengths] : {std::pair<std::string, std::vector<int64_t>>{"spread", spread}, {"tape", tape}}) {
      benchmark::RegisterBenchmark(
          ("packed_encoder/" + kind + name).c_str(),
          [name = name, lengths = lengths, training](benchmark::State& state) { packed_encoder(state, name, lengths, training); })
          ->UseManualTime()
          ->Iterations(7)
          ->Unit(benchmark::kMillisecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace adatape
