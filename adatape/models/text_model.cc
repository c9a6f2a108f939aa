#include "adatape/models/text_model.h"

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/models/encoder_config.h"

namespace adatape {
namespace {

std::shared_ptr<const PackLayout> layout_of(const std::vector<int64_t>& offsets, torch::Device device) {
  std::vector<int64_t> lengths;
  for (size_t b = 0; b + 1 < offsets.size(); ++b) lengths.push_back(offsets[b + 1] - offsets[b]);
  return std::make_shared<const PackLayout>(std::move(lengths), std::vector<TokenKind>{}, device);
}

}  // namespace

TextModel::TextModel(const TextConfig& config, const InputSpec& input) : config_(config), input_(input) {
  ADATAPE_CHECK(input.axes.empty(), "model",
                "expected a task whose symbols have places in the sequence alone, got one that counts its own "
                "(task.places); set task.places = \"sequence\"");
  embedding_ = register_parameter("embedding", torch::zeros({input.vocabulary, config.width}));
  if (config.positions == "learned") positions_ = register_parameter("positions", torch::zeros({*config.context, config.width}));
  TextBlockShape shape = config.block_shape();
  if (config.encoder_decoder()) {
    shape.causal = false;
    encoder_ = register_module("encoder", std::make_shared<TextStack>(config, shape, config.blocks));
    if (config.positions == "learned")
      decoder_positions_ = register_parameter("decoder_positions", torch::zeros({*config.context, config.width}));
    shape.causal = shape.cross_attention = true;
  }
  decoder_ = register_module("decoder",
                             std::make_shared<TextStack>(config, shape, config.encoder_decoder() ? *config.decoder_blocks : config.blocks));
  if (!config.tied_embeddings)
    classifier_ = register_module("classifier", std::make_shared<Linear>(config.width, input.classes, /*with_bias=*/false));
}

void TextModel::initialize(uint64_t seed, uint64_t draw) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, draw);
  // Where logits are scaled down the embedding starts at N(0, 1), as T5 and PaLM have it.
  const double start = config_.start_deviation > 0 ? config_.start_deviation : 1;
  normal(embedding_, start, generator);
  if (positions_.defined()) normal(positions_, 0.02, generator);
  if (encoder_) encoder_->initialize(generator);
  if (decoder_positions_.defined()) normal(decoder_positions_, 0.02, generator);
  decoder_->initialize(generator);
  if (classifier_) normal_linear(*classifier_, config_.start_deviation, generator);
}

std::optional<int64_t> TextModel::longest() const {
  return positions_.defined() ? std::optional<int64_t>(positions_.size(0)) : std::nullopt;
}

PackedTokens TextModel::embed(const torch::Tensor& symbols, const std::shared_ptr<const PackLayout>& layout, const torch::Tensor& table,
                              const std::vector<int64_t>& before) const {
  if (symbols.numel() > 0) {
    const auto [low, high] = at::aminmax(symbols);
    ADATAPE_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < input_.vocabulary, "model", "expected symbols 0 .. ",
                  input_.vocabulary - 1, ", got ", low.item<int64_t>(), " .. ", high.item<int64_t>());
  }
  torch::Tensor values = at::embedding(embedding_, symbols);
  if (table.defined()) {
    for (size_t b = 0; b < layout->lengths().size(); ++b) {
      const int64_t length = layout->lengths()[b] + (before.empty() ? 0 : before[b]);
      ADATAPE_CHECK(length <= table.size(0), "model", "expected sequences of at most ", table.size(0), " symbols (learned positions), got ",
                    length, "; set model.context, or model.positions to rotary or relative");
    }
    if (before.empty() && layout->uniform() && layout->longest() > 0) {
      const int64_t length = layout->longest(), width = values.size(1);
      values = (values.view({-1, length, width}) + table.narrow(0, 0, length)).view({-1, width});
    } else {
      values = values + at::embedding(table, token_positions(*layout, before));
    }
  }
  return {values, layout};
}

torch::Tensor TextModel::logits_of(const torch::Tensor& states, const PackLayout& layout, const ForwardContext& context) const {
  const torch::Tensor& matrix = classifier_ ? classifier_->weight : embedding_;
  context.count("logits", layout.lengths(), product_cost(matrix.size(1), matrix.size(0), /*with_bias=*/false));
  // The states are scaled, not the logits: they are the smaller tensor.
  return linear(config_.scaled_logits ? states * (1.0 / std::sqrt(static_cast<double>(config_.width))) : states, matrix, torch::Tensor());
}

ModelOutput TextModel::forward(const Batch& batch, const ForwardOptions& options) {
  ADATAPE_CHECK(batch.symbols.defined() && !batch.offsets.empty(), "model", "expected symbols, got a batch without them");
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  auto layout = layout_of(batch.offsets, batch.symbols.device());
  PackedTokens tokens = embed(batch.symbols, layout, positions_, {});
  PackedTokens memory;
  if (encoder_) {
    ADATAPE_CHECK(batch.decoder_symbols.defined(), "model", "expected symbols for the decoder, got a batch without them");
    memory = {encoder_->forward(tokens, nullptr, nullptr, context, 0, "encoder ", &output), layout};
    layout = layout_of(batch.decoder_offsets, batch.symbols.device());
    tokens = embed(batch.decoder_symbols, layout, decoder_positions_, {});
  }
  const torch::Tensor states =
      decoder_->forward(tokens, encoder_ ? &memory : nullptr, nullptr, context,
                        encoder_ ? static_cast<int64_t>(encoder_->blocks.size()) : 0, encoder_ ? "decoder " : "", &output);
  output.logits = logits_of(states, *layout, context);
  output.logits_layout = layout;
  return output;
}

DecodingState TextModel::begin(const Batch& batch) const {
  DecodingState state;
  state.blocks.resize(decoder_->blocks.size());
  if (encoder_) {
    const auto layout = layout_of(batch.offsets, batch.symbols.device());
    state.memory = {encoder_->forward(embed(batch.symbols, layout, positions_, {}), nullptr, nullptr, {}, 0, "", nullptr), layout};
  }
  return state;
}

torch::Tensor TextModel::decode(const torch::Tensor& symbols, const std::shared_ptr<const PackLayout>& layout, DecodingState& state) const {
  const auto& seen = state.blocks.front().own.layout;
  const PackedTokens tokens =
      embed(symbols, layout, encoder_ ? decoder_positions_ : positions_, seen ? seen->lengths() : std::vector<int64_t>{});
  return logits_of(decoder_->forward(tokens, encoder_ ? &state.memory : nullptr, &state.blocks, {}, 0, "", nullptr), *layout, {});
}

}  // namespace adatape
