#include "adatape/models/text_stack.h"

#include <algorithm>
#include <cmath>

namespace adatape {

torch::Tensor token_positions(const PackLayout& layout, const std::vector<int64_t>& before) {
  std::vector<int64_t> positions;
  positions.reserve(static_cast<size_t>(layout.total()));
  for (size_t b = 0; b < layout.lengths().size(); ++b) {
    const int64_t first = before.empty() ? 0 : before[b];
    for (int64_t i = 0; i < layout.lengths()[b]; ++i) positions.push_back(first + i);
  }
  return index_tensor(positions, layout.device());
}

TextStack::TextStack(const TextConfig& config, TextBlockShape shape, int64_t count) : deviation_(config.start_deviation) {
  for (int64_t i = 0; i < count; ++i) blocks.push_back(register_module("block_" + std::to_string(i), std::make_shared<TextBlock>(shape)));
  if (config.positions == "relative") {
    relative = register_module(
        "relative", std::make_shared<RelativeBuckets>(config.relative_buckets, config.relative_max_distance, shape.heads, !shape.causal));
  }
  norm = register_module("norm", std::make_shared<Norm>(shape.norm, shape.width, shape.epsilon, shape.norm_bias));
}

void TextStack::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const double residual = deviation_ / std::sqrt(2.0 * static_cast<double>(blocks.size()));
  for (const auto& block : blocks) block->initialize(generator, deviation_, residual);
  const double width = static_cast<double>(norm->weight.size(0));
  if (relative) relative->initialize(generator, deviation_ > 0 ? deviation_ : 1.0 / std::sqrt(width));
  norm->weight.fill_(1);
  if (norm->bias.defined()) norm->bias.zero_();
}

torch::Tensor TextStack::forward(PackedTokens x, const PackedTokens* memory, std::vector<TextBlockCache>* caches,
                                 const ForwardContext& context, int64_t first_index, const std::string& prefix, ModelOutput* output) const {
  const PackLayout* seen = caches != nullptr && caches->front().own.layout ? caches->front().own.layout.get() : nullptr;
  TextBlockInputs inputs;
  inputs.memory = memory;
  if (blocks.front()->shape.rotary_base > 0)
    inputs.positions = token_positions(*x.layout, seen != nullptr ? seen->lengths() : std::vector<int64_t>{});
  if (relative) {
    const int64_t longest = x.layout->longest() + (seen != nullptr ? seen->longest() : 0);
    inputs.relative_bias = relative->table(std::max<int64_t>(longest - 1, 0));
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    inputs.cache = caches != nullptr ? &(*caches)[i] : nullptr;
    x = blocks[i]->forward(x, inputs, context, first_index + static_cast<int64_t>(i), prefix + "block " + std::to_string(i));
    if (output != nullptr && context.work != nullptr) output->block_tokens.push_back(x.layout->lengths());
  }
  return norm->forward(x.values);
}

}  // namespace adatape
