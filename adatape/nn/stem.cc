#include "adatape/nn/stem.h"

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/nn/look_up.h"
#include "adatape/nn/patches.h"
#include "adatape/ops/half_block/half_block.h"

namespace adatape {

void StemConfig::fields(FieldVisitor& visit) {
  visit.choice("input", input, {"auto", "patches", "tokens", "flat", "class_token"},
               "what becomes input tokens: image patches, one token a symbol or vector, the flattened sequence as one token, or only a "
               "learned class token");
  visit.integer("patch", patch, {1, 4096}, "side of an image patch in pixels");
  visit.boolean("class_token", class_token, "put a learned class token in front");
  visit.choice("class_token_start", class_token_start, {"zeros", "normal"},
               "start of the class token: zeros, or N(0, 0.02) where it is a query");
  visit.boolean("positions", positions, "learned position embedding of input tokens");
  visit.choice(
      "position_start", position_start, {"zero", "random"},
      "place of a sequence's first element: 0, or while training anywhere that the sequence fits, so that longer ones find all places "
      "trained");
}

void StemConfig::resolve(const InputSpec& spec) {
  const bool images = spec.kind == InputSpec::Kind::kImages;
  if (input == "auto") input = images ? "patches" : "tokens";
  if (input == "class_token") class_token = true;
  ADATAPE_CHECK(images ? (input == "patches" || input == "class_token") : input != "patches", "config", "model.input: \"", input,
                "\" cannot read ",
                images                                   ? "images"
                : spec.kind == InputSpec::Kind::kSymbols ? "symbols"
                                                         : "vectors",
                "; expected ", images ? "patches or class_token" : "tokens, flat or class_token");
  ADATAPE_CHECK(position_start == "zero" || (input == "tokens" && positions), "config",
                "model.position_start: \"random\" needs input = \"tokens\" with positions = true");
  if (input == "patches") {
    ADATAPE_CHECK(patch <= spec.height && patch <= spec.width, "config", "model.patch: expected at most the image's ", spec.height, " x ",
                  spec.width, ", got ", patch);
  }
}

Stem::Stem(const StemConfig& config_, const InputSpec& spec_, int64_t width) : config(config_), spec(spec_) {
  config.resolve(spec);
  int64_t tokens = 0;
  if (config.input == "patches") {
    patch_weight = register_parameter("patch_weight", torch::zeros({width, spec.channels, config.patch, config.patch}));
    tokens = (spec.height / config.patch) * (spec.width / config.patch);
  } else if (config.input == "tokens") {
    register_element_weight(width, 1);
    tokens = spec.axes.empty() ? spec.length : std::accumulate(spec.axes.begin(), spec.axes.end(), int64_t{0});
  } else if (config.input == "flat") {
    register_element_weight(width, spec.length);
  }
  if (config.input != "class_token") bias = register_parameter("bias", torch::zeros({width}));
  if (config.class_token) class_token = register_parameter("class_token", torch::zeros({width}));
  if (config.positions && tokens > 0) {
    const bool class_place = config.class_token && (config.input == "patches" || spec.axes.empty());
    positions = register_parameter("positions", torch::zeros({tokens + (class_place ? 1 : 0), width}));
  }
}

void Stem::register_element_weight(int64_t width, int64_t elements) {
  if (spec.kind == InputSpec::Kind::kVectors) {
    vector_weight = register_parameter("vector_weight", torch::zeros({width, elements * spec.dimension}));
  } else {
    symbol_weight = register_parameter("symbol_weight", torch::zeros({width, elements * spec.vocabulary}));
  }
}

void Stem::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  if (patch_weight.defined()) lecun_normal(patch_weight, patch_weight.numel() / patch_weight.size(0), generator);
  if (symbol_weight.defined()) lecun_normal(symbol_weight, symbol_weight.size(1), generator);
  if (vector_weight.defined()) lecun_normal(vector_weight, vector_weight.size(1), generator);
  if (bias.defined()) bias.zero_();
  if (class_token.defined()) {
    class_token.zero_();
    if (config.class_token_start == "normal") normal(class_token, 0.02, generator);
  }
  if (positions.defined()) normal(positions, 0.02, generator);
}

void Stem::pack(torch::Dtype products) {
  if (patch_weight.defined() && patch_weight.is_cpu())
    packed_patches_ = ops::pack_weight(patch_weight.view({patch_weight.size(0), -1}), bias, exact_patches ? torch::kFloat : products);
}

PackedTokens Stem::patches(const Batch& batch, const ForwardContext& context) const {
  const torch::Tensor rows = patch_rows(batch.images, config.patch);
  const torch::Tensor weight = patch_weight.view({patch_weight.size(0), -1});
  const std::vector<int64_t> lengths(static_cast<size_t>(batch.size()), rows.size(0) / std::max<int64_t>(batch.size(), 1));
  context.count("stem / patches", lengths, product_cost(weight.size(1), weight.size(0), true));
  return {linear(rows, weight, bias, packed_patches_),
          std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, rows.device())};
}

// A Linear of one-hot vectors is a look-up: no multiply-adds, and equal symbols give equal bits.
PackedTokens Stem::elements(const Batch& batch, const ForwardContext& context) const {
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < batch.size(); ++b) lengths.push_back(batch.offsets[b + 1] - batch.offsets[b]);
  if (symbol_weight.defined()) {
    return {look_up(symbol_weight.t() + bias, batch.symbols),
            std::make_shared<const PackLayout>(std::move(lengths), std::vector<TokenKind>{}, batch.symbols.device())};
  }
  context.count("stem / vectors", lengths, product_cost(vector_weight.size(1), vector_weight.size(0), true));
  return {linear(batch.vectors, vector_weight, bias),
          std::make_shared<const PackLayout>(std::move(lengths), std::vector<TokenKind>{}, batch.vectors.device())};
}

PackedTokens Stem::flat(const Batch& batch, const ForwardContext& context) const {
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t length = batch.offsets[b + 1] - batch.offsets[b];
    ADATAPE_CHECK(length == spec.length, "model", "flat input: expected sequences of length ", spec.length, ", got ", length,
                  "; train with model.input = \"tokens\" or \"class_token\" for other lengths");
  }
  const std::vector<int64_t> ones(static_cast<size_t>(batch.size()), 1);
  torch::Tensor values;  // [B, D]
  if (symbol_weight.defined()) {
    const torch::Tensor places =
        torch::arange(spec.length, batch.symbols.options()) * spec.vocabulary + batch.symbols.view({-1, spec.length});
    values = at::embedding(symbol_weight.t(), places).sum(1) + bias;
  } else {
    context.count("stem / vectors", ones, product_cost(vector_weight.size(1), vector_weight.size(0), true));
    values = linear(batch.vectors.reshape({batch.size(), spec.length * spec.dimension}), vector_weight, bias);
  }
  return {values, std::make_shared<const PackLayout>(ones, std::vector<TokenKind>{}, values.device())};
}

torch::Tensor Stem::own_places(const Batch& batch, const PackLayout& layout, const ForwardContext& context) const {
  const int64_t axes = static_cast<int64_t>(spec.axes.size());
  const bool moved = config.position_start == "random" && context.training;
  const torch::Tensor drawn =
      moved ? counter_uniform(context.seed, context.step, site(Site::kPositions), context.examples, axes) : torch::Tensor();
  const torch::Tensor places = batch.places.cpu().contiguous();
  torch::Tensor rows = torch::zeros({places.numel()}, torch::kInt64);  // 0: none
  const int64_t* given = places.const_data_ptr<int64_t>();
  int64_t* row = rows.data_ptr<int64_t>();
  for (int64_t b = 0; b < layout.batch(); ++b) {
    const int64_t begin = layout.offsets()[static_cast<size_t>(b)], end = layout.offsets()[static_cast<size_t>(b) + 1];
    for (int64_t axis = 0, first_row = 1; axis < axes; first_row += spec.axes[static_cast<size_t>(axis)], ++axis) {
      int64_t last = -1, start = 0;
      for (int64_t i = begin; i < end; ++i) last = std::max(last, given[i * axes + axis]);
      const int64_t room = spec.axes[static_cast<size_t>(axis)] - last;
      if (moved)
        start = std::min(static_cast<int64_t>(drawn.const_data_ptr<float>()[b * axes + axis] * static_cast<float>(room)), room - 1);
      for (int64_t i = begin; i < end; ++i) {
        if (given[i * axes + axis] >= 0) row[i * axes + axis] = first_row + start + given[i * axes + axis];
      }
    }
  }
  const torch::Tensor table = torch::cat({positions.new_zeros({1, positions.size(1)}), positions});
  return table.index_select(0, rows.to(positions.device())).view({places.size(0), axes, positions.size(1)}).sum(1);
}

torch::Tensor Stem::random_starts(const PackLayout& layout, const ForwardContext& context) const {
  const torch::Tensor drawn = counter_uniform(context.seed, context.step, site(Site::kPositions), context.examples, 1);
  torch::Tensor starts = torch::empty({layout.batch()}, torch::kInt64);
  for (int64_t b = 0; b < layout.batch(); ++b) {
    const int64_t room = positions.size(0) - layout.lengths()[static_cast<size_t>(b)] + 1;
    starts.data_ptr<int64_t>()[b] = std::min(static_cast<int64_t>(drawn.const_data_ptr<float>()[b] * static_cast<float>(room)), room - 1);
  }
  return starts.to(layout.offsets_tensor().device());
}

PackedTokens Stem::forward(const Batch& batch, const ForwardContext& context) const {
  check_batch(batch, spec);
  PackedTokens tokens;
  if (config.input == "patches") {
    tokens = patches(batch, context);
  } else if (config.input == "tokens") {
    tokens = elements(batch, context);
    if (positions.defined() && !spec.axes.empty()) tokens.values = tokens.values + own_places(batch, *tokens.layout, context);
  } else if (config.input == "flat") {
    tokens = flat(batch, context);
  } else {
    tokens = {class_token.new_zeros({0, class_token.size(0)}),
              std::make_shared<const PackLayout>(std::vector<int64_t>(static_cast<size_t>(batch.size())), std::vector<TokenKind>{},
                                                 class_token.device())};
  }
  if (class_token.defined()) tokens = prepend_token(tokens, class_token, TokenKind::kClass);
  if (positions.defined() && spec.axes.empty()) {
    const PackLayout& layout = *tokens.layout;
    ADATAPE_CHECK(layout.longest() <= positions.size(0), "model", "expected sequences of at most ",
                  positions.size(0) - (config.class_token ? 1 : 0), " tokens (learned positions), got ",
                  layout.longest() - (config.class_token ? 1 : 0), "; set model.positions = false for other lengths");
    if (config.position_start == "random" && context.training && layout.total() > 0) {
      const torch::Tensor example = layout.example_of_token();
      torch::Tensor place =
          torch::arange(layout.total(), layout.offsets_tensor().options()) - layout.offsets_tensor().index_select(0, example);
      const torch::Tensor shift = random_starts(layout, context).index_select(0, example);
      place = class_token.defined() ? torch::where(place == 0, place, place + shift) : place + shift;
      tokens.values = tokens.values + positions.index_select(0, place);
    } else if (layout.uniform() && layout.longest() > 0) {
      const int64_t length = layout.longest();
      if (!at::GradMode::is_enabled() && ops::has_half_block(tokens.values, positions.size(1)) &&
          tokens.values.scalar_type() == torch::kBFloat16) {
        ops::cuda_kernels().add_table(tokens.values, positions.narrow(0, 0, length));
        return tokens;
      }
      tokens.values = (tokens.values.view({-1, length, positions.size(1)}) + positions.narrow(0, 0, length)).view({-1, positions.size(1)});
    } else {
      const torch::Tensor place = torch::arange(layout.total(), layout.offsets_tensor().options()) -
                                  layout.offsets_tensor().index_select(0, layout.example_of_token());
      tokens.values = tokens.values + positions.index_select(0, place);
    }
  }
  return tokens;
}

void check_batch(const Batch& batch, const InputSpec& spec) {
  if (spec.kind == InputSpec::Kind::kImages) {
    ADATAPE_CHECK(batch.images.defined(), "model", "expected images, got a batch without them");
    ADATAPE_CHECK(batch.images.dim() == 4 && batch.images.size(1) == spec.channels && batch.images.size(2) == spec.height &&
                      batch.images.size(3) == spec.width,
                  "model", "expected images [B, ", spec.channels, ", ", spec.height, ", ", spec.width, "], got ", batch.images.sizes());
    return;
  }
  if (!spec.axes.empty()) {
    const int64_t axes = static_cast<int64_t>(spec.axes.size());
    ADATAPE_CHECK(batch.places.defined() && batch.places.dim() == 2 && batch.places.size(1) == axes && !batch.offsets.empty() &&
                      batch.places.size(0) == batch.offsets.back(),
                  "model", "expected places [", batch.offsets.empty() ? 0 : batch.offsets.back(), ", ", axes, "] of the elements, got ",
                  batch.places.defined() ? "other ones" : "none");
    for (int64_t axis = 0; batch.places.size(0) > 0 && axis < axes; ++axis) {
      const auto [low, high] = at::aminmax(batch.places.select(1, axis));
      ADATAPE_CHECK(low.item<int64_t>() >= -1 && high.item<int64_t>() < spec.axes[static_cast<size_t>(axis)], "model",
                    "expected places of at most ", spec.axes[static_cast<size_t>(axis)] - 1, ", got ", high.item<int64_t>(),
                    "; a model reads numbers as long as those it was made for");
    }
  }
  if (spec.kind == InputSpec::Kind::kVectors) {
    ADATAPE_CHECK(batch.vectors.defined() && !batch.offsets.empty(), "model", "expected vectors, got a batch without them");
    ADATAPE_CHECK(batch.vectors.dim() == 2 && batch.vectors.size(1) == spec.dimension && batch.vectors.size(0) == batch.offsets.back(),
                  "model", "expected vectors [", batch.offsets.back(), ", ", spec.dimension, "], got ", batch.vectors.sizes());
    return;
  }
  ADATAPE_CHECK(batch.symbols.defined() && !batch.offsets.empty(), "model", "expected symbols, got a batch without them");
  if (batch.symbols.numel() > 0) {
    const auto [low, high] = at::aminmax(batch.symbols);
    ADATAPE_CHECK(low.item<int64_t>() >= 0 && high.item<int64_t>() < spec.vocabulary, "model", "expected symbols 0 .. ",
                  spec.vocabulary - 1, ", got ", low.item<int64_t>(), " .. ", high.item<int64_t>());
  }
}

}  // namespace adatape
