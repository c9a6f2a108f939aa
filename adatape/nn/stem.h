// From a batch to the first packed tokens: image patches, one token a symbol or vector, the flattened sequence as one token, or a class
// token alone.
#pragma once

#include "adatape/core/batch.h"
#include "adatape/core/config.h"
#include "adatape/nn/forward_context.h"
#include "adatape/nn/initialize.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

struct StemConfig {
  std::string input = "auto";  // patches | tokens | flat | class_token
  int64_t patch = 16;          // side of a patch in pixels
  bool class_token = false;
  std::string class_token_start = "zeros";  // zeros | normal
  bool positions = true;                    // learned position embedding (patches and tokens)
  std::string position_start = "zero";      // zero | random: place of the first element while training (arXiv 1807.03819, section 3.2)
  void fields(FieldVisitor& visit);
  // `auto` becomes patches or tokens; Error where the input cannot serve this kind of example.
  void resolve(const InputSpec& spec);
};

struct Stem : Module {
  Stem(const StemConfig& config, const InputSpec& spec, int64_t width);
  void initialize(at::Generator& generator);
  PackedTokens forward(const Batch& batch, const ForwardContext& context) const;

  StemConfig config;
  InputSpec spec;
  torch::Tensor patch_weight;   // [D, C, patch, patch]; patches
  torch::Tensor symbol_weight;  // [D, vocabulary] (tokens) or [D, length * vocabulary] (flat: position-major)
  torch::Tensor vector_weight;  // [D, dimension] (tokens) or [D, length * dimension] (flat)
  torch::Tensor bias;           // [D]; undefined for class_token
  torch::Tensor class_token;    // [D]; undefined without
  torch::Tensor positions;      // [tokens, D] (or [sum of axes, D]), the class token's first; undefined without
  // Packed weights stay float32: where tokens are averaged to a query, rounded ones would select other rows.
  bool exact_patches = false;

 protected:
  void pack(torch::Dtype products) override;
  void unpack() override { packed_patches_ = {}; }

 private:
  ops::PackedWeight packed_patches_;
  void register_element_weight(int64_t width, int64_t elements);
  PackedTokens patches(const Batch& batch, const ForwardContext& context) const;
  PackedTokens elements(const Batch& batch, const ForwardContext& context) const;
  PackedTokens flat(const Batch& batch, const ForwardContext& context) const;
  // Embeddings of Batch::places, [tokens, D]; columns are moved apart from each other, each within its axis.
  torch::Tensor own_places(const Batch& batch, const PackLayout& layout, const ForwardContext& context) const;
  torch::Tensor random_starts(const PackLayout& layout, const ForwardContext& context) const;  // int64 [B] on the layout's device
};

// Error unless the batch holds what the spec says: kind, sizes, symbols within the vocabulary.
void check_batch(const Batch& batch, const InputSpec& spec);

}  // namespace adatape
