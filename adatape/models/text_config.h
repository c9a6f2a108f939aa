// The configuration that the text models share: one block (nn/text_block.h) whose settings make T5, GPT or PaLM of it.
#pragma once

#include "adatape/models/model.h"
#include "adatape/nn/text_block.h"

namespace adatape {

struct TextConfig : ModelConfig {
  std::string size = "custom";  // a published size (models/text_sizes.h); fields that the configuration names go before it
  int64_t width = 64;
  int64_t blocks = 2;                     // of the decoder alone, or of the encoder
  std::optional<int64_t> decoder_blocks;  // "blocks"; encoder-decoder only
  int64_t heads = 4;
  std::optional<int64_t> key_value_heads;  // "heads"; 1 = multi-query
  std::optional<int64_t> head_width;       // "width / heads"
  int64_t ffn_width = 256;
  std::string activation = "gelu_tanh";
  std::string norm = "layer";  // layer | rms
  double norm_epsilon = 1e-6;
  bool norm_bias = true;
  bool biases = true;
  bool parallel = false;
  std::string positions = "learned";  // learned | rotary | relative | none
  std::optional<int64_t> context;     // "task": rows of the learned positions
  double rotary_base = 10000;
  int64_t relative_buckets = 32;
  int64_t relative_max_distance = 128;
  bool scaled_attention = true;
  bool tied_embeddings = true;
  bool scaled_logits = false;  // x width^-0.5
  double start_deviation = 0;  // 0: 1 / sqrt(inputs); else N(0, that^2), smaller where blocks write to the residual stream
  double dropout = 0;

  void fields(FieldVisitor& visit) override;
  void resolve(const InputSpec& input) override;
  void validate(const InputSpec& input) const override;
  TextBlockShape block_shape() const;
  bool encoder_decoder() const { return name == "t5"; }

 private:
  std::string applied_size_ = "custom";
};

// What the families are: the defaults of `name = "gpt"`, "palm" and "t5".
TextConfig gpt_defaults();
TextConfig palm_defaults();
TextConfig t5_defaults();

}  // namespace adatape
