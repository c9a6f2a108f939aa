// From the last tokens to logits: LayerNorm, pooling, classifier.
#pragma once

#include "adatape/core/config.h"
#include "adatape/nn/forward_context.h"
#include "adatape/nn/initialize.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

struct HeadConfig {
  std::string pooling = "gap";          // token | gap | each
  std::string norm = "before_pooling";  // before_pooling | after_pooling (timm's fc_norm)
  double classifier_bias = 0;           // start of the classifier's bias (ImageNet with sigmoid loss: -6.9)
  void fields(FieldVisitor& visit);
};

struct Head : Module {
  Head(const HeadConfig& config, int64_t width, int64_t classes);
  void initialize(at::Generator& generator);
  // [B, classes], with pooling = "each" [input tokens, classes], whose layout answer_layout tells. features (optional): tokens after the
  // norm if it comes before pooling, else as they came.
  torch::Tensor forward(const PackedTokens& tokens, const ForwardContext& context, torch::Tensor* features = nullptr) const;

  // The input tokens of each example.
  static std::shared_ptr<const PackLayout> answer_layout(const std::shared_ptr<const PackLayout>& layout);

  HeadConfig config;
  std::shared_ptr<LayerNorm> norm;
  std::shared_ptr<Linear> classifier;
};

}  // namespace adatape
