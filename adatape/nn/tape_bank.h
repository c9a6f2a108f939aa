// The banks that tape tokens are read from. Source: arXiv 2301.13195, section 3.1.
#pragma once

#include "adatape/core/batch.h"
#include "adatape/core/config.h"
#include "adatape/nn/forward_context.h"
#include "adatape/nn/initialize.h"
#include "adatape/nn/packed_tokens.h"

namespace adatape {

struct TapeBankConfig {
  std::string name = "input";      // what readers call it
  std::string kind = "input";      // input | learnable
  int64_t rows = 10000;            // learnable: M
  int64_t patch = 8;               // input, images: side of a bank patch in pixels
  int64_t resolution = 0;          // input, images: the image is resized to this side first; 0 = as it is
  std::string positions = "auto";  // input: on | off | auto (on for images, off for sequences)
  void fields(FieldVisitor& visit);
};

// Rows of all examples: packed [R, D] with a layout, or one bank [M, D] shared by all (layout null).
struct BankRows {
  torch::Tensor values;
  std::shared_ptr<const PackLayout> layout;
  int64_t rows_of(int64_t example) const { return layout ? layout->lengths()[example] : values.size(0); }
};

struct TapeBank : Module {
  TapeBank(const TapeBankConfig& config, const InputSpec& spec, int64_t width);
  void initialize(at::Generator& generator);
  BankRows forward(const Batch& batch, const ForwardContext& context) const;

  TapeBankConfig config;
  InputSpec spec;
  torch::Tensor rows;               // [M, D]; learnable
  torch::Tensor symbol_weight;      // [D, vocabulary]; input, symbols
  torch::Tensor vector_weight;      // [D, dimension]; input, vectors
  torch::Tensor patch_weight;       // [D, C, patch, patch]; input, images
  torch::Tensor bias;               // [D]; input
  torch::Tensor positions;          // [M, D]; undefined: none
  std::shared_ptr<Linear> project;  // [D, D]; input, images

 protected:
  void pack(torch::Dtype products) override;  // float32 always: rounded rows would be other selections
  void unpack() override { packed_patches_ = {}; }

 private:
  // Inference on images: the projection of a patch's embedding is one linear map of its pixels, made when weights are packed.
  ops::PackedWeight packed_patches_;
  torch::Tensor packed_offset_;  // [M, D] with positions, else [D]: what the projection makes of bias and positions
};

}  // namespace adatape
