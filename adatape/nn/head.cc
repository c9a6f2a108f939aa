#include "adatape/nn/head.h"

namespace adatape {

void HeadConfig::fields(FieldVisitor& visit) {
  visit.choice("pooling", pooling, {"gap", "token"}, "what the classifier reads: the mean of an example's tokens (class token left out) or the class token");
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
  context.count("head / classifier", std::vector<int64_t>(static_cast<size_t>(pooled.size(0)), 1), classifier->flops_per_row());
  return classifier->forward(pooled);
}

}  // namespace adatape
