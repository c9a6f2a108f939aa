// Models of every family on every kind of input, with parameters that leave nothing zero, and batches for them.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/models/registry.h"
#include "adatape/nn/initialize.h"

namespace adatape::testing {

inline InputSpec symbol_spec(int64_t length = 9, int64_t classes = 3) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = 4;
  spec.length = length;
  spec.classes = classes;
  return spec;
}

inline InputSpec image_spec(int64_t height = 13, int64_t width = 10, int64_t classes = 3) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 2;
  spec.height = height;
  spec.width = width;
  spec.classes = classes;
  return spec;
}

inline InputSpec vector_spec(int64_t length = 9, int64_t classes = 3) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = 5;
  spec.length = length;
  spec.classes = classes;
  return spec;
}

inline InputSpec answering_each(InputSpec spec) {
  spec.answers_each = true;
  return spec;
}

// The model that [model] keys describe (TOML lines).
inline std::shared_ptr<Model> make_model(const std::string& name, const std::string& keys, const InputSpec& spec) {
  const ModelEntry& entry = find_model(name);
  const auto config = entry.make_config();
  ConfigDocument::from_text("name = \"" + name + "\"\n" + keys).read(*config);
  config->resolve(spec);
  config->validate(spec);
  return entry.make_model(*config, spec);
}

// Moves every parameter off its start: no zero classifier, no unit scale.
inline void perturb(const Model& model, uint64_t seed, double deviation = 0.15) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, 0);
  for (const NamedParameter& parameter : model.named_parameters()) {
    torch::Tensor noise = torch::zeros_like(parameter.tensor);
    normal(noise, deviation, generator);
    parameter.tensor.data().add_(noise);
  }
}

// Examples with identities 100, 101 ...; sequences of these lengths.
inline Batch symbol_batch(const std::vector<int64_t>& lengths, int64_t vocabulary, uint32_t seed) {
  std::mt19937 random(seed);
  Batch batch;
  batch.offsets = {0};
  std::vector<int64_t> symbols;
  for (const int64_t length : lengths) {
    for (int64_t i = 0; i < length; ++i) symbols.push_back(static_cast<int64_t>(random() % static_cast<uint32_t>(vocabulary)));
    batch.offsets.push_back(static_cast<int64_t>(symbols.size()));
  }
  batch.symbols = torch::tensor(symbols, torch::kInt64);
  batch.examples = torch::arange(100, 100 + batch.size(), torch::kInt64);
  return batch;
}

inline Batch image_batch(int64_t count, const InputSpec& spec, uint64_t seed) {
  at::Generator generator = parameter_generator(seed, 1);
  Batch batch;
  batch.images = torch::empty({count, spec.channels, spec.height, spec.width}).uniform_(-1, 1, generator);
  batch.examples = torch::arange(100, 100 + count, torch::kInt64);
  return batch;
}

inline Batch vector_batch(const std::vector<int64_t>& lengths, int64_t dimension, uint64_t seed) {
  at::Generator generator = parameter_generator(seed, 2);
  Batch batch;
  batch.offsets = {0};
  for (const int64_t length : lengths) batch.offsets.push_back(batch.offsets.back() + length);
  batch.vectors = torch::empty({batch.offsets.back(), dimension}).normal_(0, 1, generator);
  batch.examples = torch::arange(100, 100 + batch.size(), torch::kInt64);
  return batch;
}

// What a decoder reads beside it, where the model has one: none for an example without symbols, else 1 to 5.
inline Batch with_decoder(Batch batch, const InputSpec& spec, uint32_t seed) {
  if (spec.decoder_length == 0) return batch;
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t length = batch.offsets[b + 1] - batch.offsets[b];
    lengths.push_back(length > 0 ? length % 5 + 1 : 0);
  }
  const Batch second = symbol_batch(lengths, spec.vocabulary, seed + 50);
  batch.decoder_symbols = second.symbols;
  batch.decoder_offsets = second.offsets;
  return batch;
}

// These examples of a batch, in this order.
inline Batch chosen(const Batch& batch, const std::vector<int64_t>& which) {
  const torch::Tensor index = torch::tensor(which, torch::kInt64);
  Batch result;
  result.examples = batch.examples.index_select(0, index);
  if (batch.images.defined()) {
    result.images = batch.images.index_select(0, index);
    return result;
  }
  std::vector<torch::Tensor> parts;
  result.offsets = {0};
  for (const int64_t b : which) {
    parts.push_back((batch.vectors.defined() ? batch.vectors : batch.symbols).slice(0, batch.offsets[b], batch.offsets[b + 1]));
    result.offsets.push_back(result.offsets.back() + parts.back().size(0));
  }
  (batch.vectors.defined() ? result.vectors : result.symbols) = torch::cat(parts);
  if (batch.decoder_symbols.defined()) {
    parts.clear();
    result.decoder_offsets = {0};
    for (const int64_t b : which) {
      parts.push_back(batch.decoder_symbols.slice(0, batch.decoder_offsets[b], batch.decoder_offsets[b + 1]));
      result.decoder_offsets.push_back(result.decoder_offsets.back() + parts.back().size(0));
    }
    result.decoder_symbols = torch::cat(parts);
  }
  return result;
}

struct ModelCase {
  friend void PrintTo(const ModelCase& one, std::ostream* stream) { *stream << one.label; }
  std::string label, model, keys;
  InputSpec spec;
  std::vector<int64_t> lengths;  // of sequences; empty: images

  std::shared_ptr<Model> make() const {
    auto made = make_model(model, keys, spec);
    perturb(*made, 7);
    return made;
  }
  Batch batch(uint32_t seed = 1) const {
    if (spec.kind == InputSpec::Kind::kVectors) return vector_batch(lengths, spec.dimension, seed);
    return lengths.empty() ? image_batch(6, spec, seed) : with_decoder(symbol_batch(lengths, spec.vocabulary, seed), spec, seed);
  }
};

inline const std::vector<ModelCase>& model_cases() {
  const std::string small = "width = 16\nheads = 4\nffn_width = 24\n";
  const std::string tokens = small + "input = \"tokens\"\n", flat = small + "input = \"flat\"\n", patches = small + "patch = 4\n";
  const std::string class_token = "class_token = true\npooling = \"token\"\n";
  const std::string bank = "[[banks]]\nname = \"input\"\npatch = 3\n";
  const std::string reader = "[[readers]]\nmax_tape_tokens = 5\nthreshold = 1.7\nrows_per_step = 2\n";
  const std::vector<int64_t> ragged = {5, 9, 1, 5, 7, 9}, equal = {9, 9, 9, 9, 9, 9};
  const std::vector<int64_t> single = {1, 1, 1, 1, 1, 1};
  const InputSpec symbols = symbol_spec(), images = image_spec(), vectors = vector_spec(), one_vector = vector_spec(1);
  const std::string ponder = "max_steps = 5\nhalting_threshold = 0.8\nhalting_bias = -0.5\n",
                    cell = "width = 16\nmax_steps = 5\nhalting_bias = -0.5\n";
  const std::string experts = "[moe]\nexperts = 4\ncapacity = 0.8\n";
  const InputSpec text = answering_each(symbol_spec(9, 4));
  InputSpec two_texts = text;
  two_texts.decoder_length = 5;
  static const std::vector<ModelCase> cases = {
      {"transformer_tokens", "transformer", tokens, symbols, ragged},
      {"transformer_flat", "transformer", flat, symbols, equal},
      {"transformer_each", "transformer", tokens + "class_token = true\n", answering_each(symbols), ragged},
      {"universal_each", "universal_transformer", tokens + "max_steps = 4\nhalting_bias = 0\n", answering_each(symbols), ragged},
      {"adatape_each", "adatape", tokens + "tape_ffn_width = 0\n" + reader, answering_each(symbols), ragged},
      {"transformer_experts", "transformer", tokens + experts, symbols, ragged},
      {"transformer_experts_priority", "transformer",
       tokens + "blocks = 1\n" + experts + "top_k = 1\nbatch_priority = true\nffn_width = 8\n", symbols, ragged},
      {"vit_experts", "vit", patches + class_token + experts + "evaluation_capacity = 0.6\nnoise = false\n", images, {}},
      {"adatape_experts", "adatape", tokens + "tape_ffn_width = 0\n" + reader + experts, symbols, ragged},
      {"adatape_experts_two_ffn", "adatape", tokens + reader + experts, symbols, ragged},
      {"universal_experts", "universal_transformer", tokens + "max_steps = 4\nhalting_bias = 0\n" + experts, symbols, ragged},
      {"avit_experts",
       "avit",
       patches + "blocks = 4\ngate_scale = 2\ngate_center = 1\nprior_mean = 2\n" + experts + "every = 3\n",
       images,
       {}},
      {"vit_gap", "vit", patches, images, {}},
      {"vit_token", "vit", patches + class_token, images, {}},
      {"vit_pooled_last", "vit", patches + class_token + "last_block = \"pooled\"\n", images, {}},
      {"vit_fc_norm", "vit", patches + "norm = \"after_pooling\"\ngelu = \"exact\"\n", images, {}},
      {"adatape_tokens", "adatape", tokens + reader, symbols, ragged},
      {"adatape_flat", "adatape", flat + reader + "before_block = 0\n", symbols, equal},
      {"adatape_class_token", "adatape",
       small + "input = \"class_token\"\nclass_token_start = \"normal\"\npooling = \"token\"\n" +
           "[[readers]]\nbefore_block = 0\nmax_tape_tokens = \"bank\"\nthreshold = 0.5\nrows_per_step = 2\n",
       symbols, ragged},
      {"adatape_pooled_last", "adatape", tokens + class_token + "last_block = \"pooled\"\n" + reader, symbols, ragged},
      {"adatape_images", "adatape", patches + bank + reader, images, {}},
      {"adatape_images_token",
       "adatape",
       patches + class_token + bank + "resolution = 9\n" + reader + "query_update = \"replace\"\nponder = \"max\"\n",
       images,
       {}},
      {"adatape_learnable", "adatape",
       tokens + "tape_ffn_width = 0\n[[banks]]\nname = \"input\"\nkind = \"learnable\"\nrows = 12\n" + reader, symbols, ragged},
      {"adatape_two_readers", "adatape",
       tokens + "blocks = 3\n" + bank + "[[banks]]\nname = \"own\"\nkind = \"learnable\"\nrows = 11\n" + reader + "before_block = 0\n" +
           reader + "before_block = 0\nquery = \"learned\"\n" + reader + "before_block = 2\nbank = \"own\"\n",
       symbols, ragged},
      {"adatape_all", "adatape", tokens + "[[readers]]\nselection = \"all\"\n", symbols, ragged},
      {"adatape_sorted", "adatape", tokens + "[[readers]]\nselection = \"sorted\"\nhalting = \"none\"\nrows_per_step = 2\n", symbols,
       ragged},
      {"adatape_random", "adatape", tokens + "[[readers]]\nselection = \"random\"\nhalting = \"none\"\nrows_per_step = 2\n", symbols,
       ragged},
      {"avit_token", "avit", patches + "blocks = 4\ngate_scale = 2\ngate_center = 1\nprior_mean = 2\n", images, {}},
      {"avit_gap", "avit", patches + "blocks = 4\ngate_scale = 2\ngate_center = 0\npooling = \"gap\"\nclass_token = false\n", images, {}},
      {"avit_tokens", "avit", tokens + "blocks = 3\ngate_scale = 3\ngate_center = 0\npooling = \"gap\"\n", symbols, ragged},
      {"avit_tape",
       "avit",
       patches + "blocks = 4\ngate_scale = 2\ngate_center = 1\nprior_mean = 2\n" + bank + reader + "before_block = 0\n",
       images,
       {}},
      {"universal_per_token", "universal_transformer", tokens + "max_steps = 5\nhalting_bias = 0\nstep_embedding = true\n", symbols,
       ragged},
      {"universal_per_token_basic", "universal_transformer", tokens + "max_steps = 5\nhalting_bias = 0\noutput = \"basic\"\n", symbols,
       ragged},
      {"universal_per_example", "universal_transformer", tokens + "max_steps = 5\nhalting_bias = 0\nhalting = \"per_example\"\n", symbols,
       ragged},
      {"universal_tape_per_token", "universal_transformer",
       tokens + "max_steps = 5\nhalting_bias = 0\n" + bank + reader + "before_block = 0\n", symbols, ragged},
      {"universal_tape_each_per_example", "universal_transformer",
       tokens +
           "max_steps = 4\nhalting_bias = 0\nhalting = \"per_example\"\ntape_ffn_width = 0\n[[banks]]\nname = \"input\"\nkind = "
           "\"learnable\"\nrows = 12\n" +
           reader + "before_block = 0\n",
       answering_each(symbols), ragged},
      {"u2t_tape", "u2t", patches + class_token + "max_steps = 3\nhalting_bias = 0\n" + bank + reader + "before_block = 0\n", images, {}},
      {"universal_flat", "universal_transformer", flat + "max_steps = 5\nhalting_bias = 0\n", symbols, equal},
      {"uvit_per_example_basic",
       "uvit",
       patches + class_token + "max_steps = 5\nhalting_bias = 0\nhalting = \"per_example\"\noutput = \"basic\"\n",
       images,
       {}},
      {"uvit_per_token", "uvit", patches + "max_steps = 5\nhalting_bias = 0\n", images, {}},
      {"u2t_per_token", "u2t", patches + "max_steps = 3\nhalting_bias = 0\n", images, {}},
      {"transformer_vectors", "transformer", tokens, vectors, ragged},
      {"transformer_vectors_flat", "transformer", flat, vectors, equal},
      {"adatape_vectors", "adatape", tokens + reader, vectors, ragged},
      {"pondernet_rnn", "pondernet", small + "step = \"rnn\"\n" + ponder, one_vector, single},
      {"pondernet_gru_sampled", "pondernet", small + "step = \"gru\"\nevaluation = \"sampled\"\n" + ponder, one_vector, single},
      {"pondernet_lstm_mass", "pondernet", small + "step = \"lstm\"\ntraining_steps = \"mass\"\ntraining_mass = 0.7\n" + ponder, one_vector,
       single},
      {"pondernet_mlp", "pondernet", small + "step = \"mlp\"\nevaluation_steps = 7\n" + ponder, one_vector, single},
      {"pondernet_tokens", "pondernet",
       tokens + "step = \"transformer\"\ndropout = 0.1\ntraining_steps = \"mass\"\ntraining_mass = 0.7\n" + ponder, symbols, ragged},
      {"pondernet_images",
       "pondernet",
       patches + class_token + "step = \"transformer\"\nhalting_reads = \"before\"\n" + ponder,
       images,
       {}},
      {"pondernet_tape", "pondernet", tokens + "step = \"transformer\"\n" + ponder + bank + reader + "before_block = 0\n", symbols, ragged},
      {"pondernet_experts", "pondernet",
       tokens + "step = \"transformer\"\ntraining_steps = \"mass\"\ntraining_mass = 0.7\n" + ponder + experts, symbols, ragged},
      {"act_rnn", "act_rnn", cell, vectors, ragged},
      {"act_rnn_gru_symbols", "act_rnn", cell + "cell = \"gru\"\n", symbols, ragged},
      {"act_rnn_lstm_each", "act_rnn", cell + "cell = \"lstm\"\n", answering_each(vectors), ragged},
      {"act_rnn_one_vector", "act_rnn", cell, one_vector, single},
      {"act_rnn_fixed", "act_rnn", "width = 16\nmax_steps = 3\nhalting = \"fixed\"\n", answering_each(symbols), ragged},
      {"gpt", "gpt", small, text, ragged},
      {"gpt_untied", "gpt", small + "tied_embeddings = false\ndropout = 0.1\npositions = \"rotary\"\nhead_width = 6\n",
       answering_each(symbols), ragged},
      {"palm", "palm", small, text, ragged},
      {"t5", "t5", small, two_texts, ragged},
      {"t5_gated", "t5",
       small + "activation = \"gated_gelu\"\ntied_embeddings = false\ndecoder_blocks = 1\nkey_value_heads = 2\ndropout = 0.1\n", two_texts,
       ragged},
      {"t5_learned", "t5", small + "positions = \"learned\"\nnorm = \"layer\"\nbiases = true\n", two_texts, ragged},
      {"u2t_per_example", "u2t", tokens + "max_steps = 4\nhalting_bias = 0\nhalting = \"per_example\"\n", symbols, ragged},
  };
  return cases;
}

// What the cost model says of rows that enter each matrix product.
inline std::map<ProductShape, int64_t> product_rows_of(const ModelOutput& output) {
  std::map<ProductShape, int64_t> rows;
  for (const WorkItem& item : output.work) {
    const int64_t entering = std::accumulate(item.rows.begin(), item.rows.end(), int64_t{0});
    for (const ProductShape& shape : item.products) {
      if (shape.in > 0 && entering > 0) rows[shape] += entering;
    }
  }
  return rows;
}

}  // namespace adatape::testing
