// One encoder block on packed mixed lengths, against the sum of what each length costs alone (ideal) and against padding to the longest.
//   build/release/adatape_benchmarks --benchmark_filter=encoder_block
#include <cmath>

#include "adatape/nn/encoder_block.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

PackedTokens pack_of(const std::vector<int64_t>& lengths, int64_t width) {
  auto layout = std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, torch::kCPU);
  return {at::randn({layout->total(), width}), layout};
}

// The same block as dense calls on [B, longest, D] with a mask: what padding does.
at::Tensor padded_block(const EncoderBlock& block, const at::Tensor& x, const at::Tensor& mask) {
  const int64_t batch = x.size(0), length = x.size(1), heads = block.shape.heads;
  const at::Tensor qkv = at::linear(block.attention_norm->forward(x), block.qkv->weight, block.qkv->bias).view({batch, length, 3, heads, -1});
  const at::Tensor attended = at::scaled_dot_product_attention(qkv.select(2, 0).transpose(1, 2), qkv.select(2, 1).transpose(1, 2),
                                                               qkv.select(2, 2).transpose(1, 2), mask)
                                  .transpose(1, 2).reshape({batch, length, -1});
  const at::Tensor middle = x + at::linear(attended, block.output->weight, block.output->bias);
  return middle + block.feed_forward->forward(block.feed_forward_norm->forward(middle));
}

void encoder_block(benchmark::State& state, const std::vector<int64_t>& lengths, bool training) {
  at::manual_seed(0);
  at::Generator generator = parameter_generator(1, 1);
  EncoderBlock block({.width = 384, .heads = 6, .ffn_width = 1536});
  block.initialize(generator);
  const PackedTokens mixed = pack_of(lengths, 384);
  const int64_t batch = static_cast<int64_t>(lengths.size()), longest = mixed.layout->longest();

  std::vector<PackedTokens> alone;  // one pack for each length that occurs
  for (const AttentionGroup& group : mixed.layout->self_attention().groups) {
    const at::Tensor rows = group.query_rows.defined() ? mixed.values.index_select(0, group.query_rows) : mixed.values;
    alone.push_back({rows, std::make_shared<const PackLayout>(std::vector<int64_t>(group.count, group.query_length), std::vector<TokenKind>{},
                                                              torch::kCPU)});
  }
  at::Tensor padded = at::zeros({batch, longest, 384}), mask = at::zeros({batch, 1, 1, longest}, at::kBool);
  for (int64_t b = 0; b < batch; ++b) {
    padded[b].narrow(0, 0, lengths[b]).copy_(mixed.values.narrow(0, mixed.layout->offsets()[b], lengths[b]));
    mask[b].narrow(2, 0, lengths[b]).fill_(true);
  }
  const auto finish = [&](const at::Tensor& out) {
    if (training) out.sum().backward();
  };
  const auto ours = [&] {
    at::AutoGradMode mode(training);
    finish(block.forward(mixed, {}, 0).values);
  };
  const auto ideal = [&] {
    at::AutoGradMode mode(training);
    for (const PackedTokens& pack : alone) finish(block.forward(pack, {}, 0).values);
  };
  const auto padding = [&] {
    at::AutoGradMode mode(training);
    finish(padded_block(block, padded, mask));
  };
  {
    at::NoGradGuard no_grad;
    const at::Tensor expected = padded_block(block, padded, mask), got = block.forward(mixed, {}, 0).values;
    for (int64_t b = 0; b < batch; ++b) {
      const at::Tensor difference = got.narrow(0, mixed.layout->offsets()[b], lengths[b]) - expected[b].narrow(0, 0, lengths[b]);
      if (difference.abs().max().item<double>() > 1e-4) {
        state.SkipWithError("the answers differ");
        return;
      }
    }
  }
  time_side_by_side(state, ours, {{"ideal", ideal}, {"padded", padding}});
  state.counters["fill"] = static_cast<double>(mixed.layout->total()) / static_cast<double>(batch * longest);
}

const bool kRegistered = [] {
  std::vector<int64_t> spread, tape;
  for (int64_t b = 0; b < 32; ++b) spread.push_back(49 * (1 + b % 4));  // 49 .. 196 tokens
  for (int64_t b = 0; b < 32; ++b) tape.push_back(196 + 2 + b * 5 % 9);  // 196 tokens and 2 .. 10 tape tokens
  for (bool training : {false, true}) {
    const std::string kind = training ? "training/" : "forward/";
    for (const auto& [name, lengths] : {std::pair<std::string, std::vector<int64_t>>{"spread_1_to_4", spread}, {"196_and_tape", tape}}) {
      benchmark::RegisterBenchmark(("encoder_block/" + kind + name).c_str(),
                                   [lengths = lengths, training](benchmark::State& state) { encoder_block(state, lengths, training); })
          ->UseManualTime()->Iterations(7)->Unit(benchmark::kMillisecond);
    }
  }
  return true;
}();

}  // namespace
}  // namespace adatape
