// How parameters of published models lie in ours, in both directions (weights in, gradients back out).
#pragma once

#include <string>
#include <vector>

#include "adatape/core/safetensors.h"
#include "adatape/models/model.h"

namespace adatape {

// One source tensor (or one layer of a stacked one) and the rows of our parameter that it becomes.
struct WeightPiece {
  enum class Form {
    kReshape,      // same order of elements
    kTransposed,   // Flax kernel [in..., out...] <-> [out, in]
    kConvolution,  // Flax [h, w, in, out] <-> [out, in, h, w]
  };
  std::string source;
  std::string ours;
  Form form = Form::kReshape;
  int64_t first = 0, count = -1;  // rows of our parameter; count -1: all
  int64_t layer = -1;             // index on the source's first axis where untied blocks are stacked; -1: not stacked
};

// Weights named as in Scenic (Flax trees joined by "/"): AdaTape, Universal Transformer, ViT.
std::vector<WeightPiece> scenic_pieces(const NamedTensors& source, const Model& model);
// Hugging Face transformers' GPT-2 and T5 (model `gpt` and `t5`).
std::vector<WeightPiece> transformers_pieces(const NamedTensors& source, const Model& model);

// Our parameters from the source's; every parameter must be covered and every shape must fit, else Error naming the tensor.
NamedTensors to_ours(const std::vector<WeightPiece>& pieces, const NamedTensors& source, const Model& model);
// Tensors named and shaped like ours (gradients), named and shaped like the source.
NamedTensors to_source(const std::vector<WeightPiece>& pieces, const NamedTensors& ours, const NamedTensors& source_shapes);

}  // namespace adatape
