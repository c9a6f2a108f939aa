// What a task hands a model: examples without padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// The shape of a task's examples and answers; a model is built from it.
struct InputSpec {
  enum class Kind { kImages, kSymbols };
  Kind kind = Kind::kSymbols;
  int64_t channels = 0, height = 0, width = 0;  // images
  int64_t vocabulary = 0;                       // symbols: ids are 0 .. vocabulary - 1
  int64_t length = 0;                           // symbols: the longest training sequence (positions and `flat` input are made for it)
  int64_t classes = 0;
};

struct Batch {
  at::Tensor images;             // float32 [B, channels, height, width] in [-1, 1]; undefined for symbols
  at::Tensor symbols;            // int64 [total], all sequences one after another; undefined for images
  std::vector<int64_t> offsets;  // [B + 1] where each sequence begins in symbols; empty for images
  at::Tensor labels;             // int64 [B]; undefined where the answer is unknown
  at::Tensor other_labels;       // int64 [B] of the example mixed in; undefined: nothing is mixed
  at::Tensor label_weights;      // float32 [B] share of `labels` in each mixture, the rest is other_labels'; undefined with other_labels
  at::Tensor examples;           // int64 [B] on the CPU: identity of each example, which random draws key on

  int64_t size() const { return images.defined() ? images.size(0) : static_cast<int64_t>(offsets.size()) - 1; }
  // The same batch with its tensors (but `examples`) on a device.
  Batch to(at::Device device) const;
};

}  // namespace adatape
