#include "adatape/nn/head.h"

namespace adatape {

void HeadConfig::fields(FieldVisitor& visit) {
  visit.choice(
      "pooling", pooling, {"gap", "token", "each"},
      "what the classifier reads: the mean of an example's tokens (class token left out), the class token, or each input token, which "
      "is what tasks that ask at each element get");
  visit.choice("norm", norm, {"before_pooling", "after_pooling"}, "where the final LayerNorm is; after_pooling is timm's fc_norm");
  visit.real("classifier_bias", classifier_bias, {}, "start of the classifier's bias");
}

Head::Head(const HeadConfig& config_, int64_t width, int64_t classes) : config(config_) {
  norm = register_module("norm", std::make_shared<LayerNorm>(width));
  classifier = register_module("classifier", std::make_shared<Linear>(width, classes));
}

void Head::initialize(at::Generator&) {
  torch::NoGradGuard no_grad;
  norm->weight.fill_(1);
  norm->bias.zero_();
  classifier->weight.zero_();
  classifier->bias.fill_(config.classifier_bias);
}

torch::Tensor Head::forward(const PackedTokens& tokens, const ForwardContext& context, torch::Tensor* features) const {
  if (config.pooling == "each") {
    torch::Tensor inputs = tokens.values;
    if (tokens.layout->count(TokenKind::kInput) < tokens.layout->total())
      inputs = inputs.index_select(0, tokens.layout->rows_of(TokenKind::kInput));
    inputs = norm->forward(inputs);
    if (features != nullptr) *features = inputs;
    context.count("head / classifier", tokens.layout->lengths_of(TokenKind::kInput), classifier->cost_per_row());
    return classifier->forward(inputs);
  }
  const bool before = config.norm == "before_pooling";
  const bool class_token = config.pooling == "token";
  // Only what is pooled needs its norm: with a class token the other tokens are left alone, unless somebody asks for them.
  torch::Tensor pooled;
  if (class_token && features == nullptr) {
    pooled = norm->forward(class_tokens(tokens));
  } else {
    const PackedTokens normed{before ? norm->forward(tokens.values) : tokens.values, tokens.layout};
    if (features != nullptr) *features = normed.values;
    pooled = class_token ? class_tokens(normed) : mean_per_example(normed);
    if (!before) pooled = norm->forward(pooled);
  }
  context.count("head / classifier", std::vector<int64_t>(static_cast<size_t>(pooled.size(0)), 1), classifier->cost_per_row());
  return classifier->forward(pooled);
}

std::shared_ptr<const PackLayout> Head::answer_layout(const std::shared_ptr<const PackLayout>& layout) {
  if (layout->count(TokenKind::kInput) == layout->total()) return layout;
  return std::make_shared<const PackLayout>(layout->lengths_of(TokenKind::kInput), std::vector<TokenKind>{}, layout->device());
}

}  // namespace adatape
