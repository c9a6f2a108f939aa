// What a task hands a model: examples without padding.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace adatape {

// The shape of a task's examples and answers; a model is built from it.
struct InputSpec {
  enum class Kind { kImages, kSymbols, kVectors };
  Kind kind = Kind::kSymbols;
  int64_t channels = 0, height = 0, width = 0;  // images
  int64_t vocabulary = 0;                       // symbols: ids are 0 .. vocabulary - 1
  int64_t dimension = 0;                        // vectors: numbers in each
  int64_t length = 0;         // symbols, vectors: the longest training sequence (positions and `flat` input are made for it)
  std::vector<int64_t> axes;  // sequences: how many places each column of Batch::places has; empty: `length` places, one column
  int64_t classes = 0;        // logits of an example, or of an element
  bool answers_each = false;  // answers at the elements of a sequence: logits are packed [total, classes]; else one an example
  int64_t decoder_length =
      0;  // > 0: a decoder reads a second sequence of symbols, at most so long in training, and answers at its elements

  bool sequences() const { return kind != Kind::kImages; }
};

struct Batch {
  at::Tensor images;             // float32 [B, channels, height, width] in [-1, 1]; else undefined
  at::Tensor symbols;            // int64 [total], all sequences one after another; else undefined
  at::Tensor vectors;            // float32 [total, dimension], likewise
  std::vector<int64_t> offsets;  // [B + 1] where each sequence begins; empty for images
  at::Tensor places;             // int64 [total, axes] on the CPU: places of elements, -1 = none; undefined: counted in the sequence
  at::Tensor decoder_symbols;    // int64 [decoder total]: what a decoder reads (InputSpec::decoder_length); else undefined
  std::vector<int64_t> decoder_offsets;  // [B + 1]; empty without
  at::Tensor labels;         // int64 [B], or [total] ([total, answers]) where elements have answers, -1 = none asked; undefined: unknown
  at::Tensor other_labels;   // int64 [B] of the example mixed in; undefined: nothing is mixed
  at::Tensor label_weights;  // float32 [B] share of `labels` in each mixture, the rest is other_labels'; undefined with other_labels
  at::Tensor examples;       // int64 [B] on the CPU: identity of each example, which random draws key on

  int64_t size() const { return images.defined() ? images.size(0) : static_cast<int64_t>(offsets.size()) - 1; }
  // Where each example's answers begin, if elements have answers.
  const std::vector<int64_t>& answer_offsets() const { return decoder_symbols.defined() ? decoder_offsets : offsets; }
  // The same batch with its tensors (but `examples`) on a device.
  Batch to(at::Device device) const;
};

}  // namespace adatape
