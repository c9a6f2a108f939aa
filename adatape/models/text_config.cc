#include "adatape/models/text_config.h"

#include "adatape/core/check.h"
#include "adatape/models/text_sizes.h"

namespace adatape {

void TextConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "which model: see `adatape list models`");
  visit.choice("size", size, text_size_names(name), "a published size; keys beside it change what it sets");
  // The keys that a file names are read after this and win; a configuration that is written has applied its size long ago.
  if (size != applied_size_) apply_text_size(size, *this);
  applied_size_ = size;
  visit.integer("width", width, {1, 65536}, "width D of all tokens");
  visit.integer("blocks", blocks, {1, 10000}, "number of blocks; of an encoder-decoder, the encoder's");
  visit.integer_or("decoder_blocks", decoder_blocks, "blocks", {1, 10000}, "t5: blocks of the decoder");
  visit.integer("heads", heads, {1, 4096}, "attention heads");
  visit.integer_or("key_value_heads", key_value_heads, "heads", {1, 4096}, "heads of keys and values, a divisor of heads; 1 = multi-query");
  visit.integer_or("head_width", head_width, "width / heads", {1, 65536}, "width of a head");
  visit.integer("ffn_width", ffn_width, {1, 1000000}, "inner width of the feed-forward networks");
  visit.choice("activation", activation, {"relu", "gelu_tanh", "gelu_exact", "gated_gelu", "swiglu"},
               "of the feed-forward networks; the last two have a gate, a third matrix");
  visit.choice("norm", norm, {"layer", "rms"}, "LayerNorm or RMSNorm");
  visit.real("norm_epsilon", norm_epsilon, {0, 1, true}, "epsilon of the norms");
  visit.boolean("norm_bias", norm_bias, "a bias in LayerNorm");
  visit.boolean("biases", biases, "biases in the linears of the blocks");
  visit.boolean("parallel", parallel, "attention and feed-forward network side by side, from one norm");
  visit.choice("positions", positions, {"learned", "rotary", "relative", "none"},
               "learned embedding, rotary queries and keys, or a score for each bucket of distances");
  visit.integer_or("context", context, "task", {1, 1000000}, "how many learned positions there are; task = its longest training sequence");
  visit.real("rotary_base", rotary_base, {1, 1e12, true}, "base of the rotary frequencies");
  visit.integer("relative_buckets", relative_buckets, {2, 100000}, "buckets of relative positions");
  visit.integer("relative_max_distance", relative_max_distance, {2, 1000000}, "distances from here on share the last bucket");
  visit.boolean("scaled_attention", scaled_attention, "scores x head_width^-0.5");
  visit.boolean("tied_embeddings", tied_embeddings, "the logits' matrix is the embedding");
  visit.boolean("scaled_logits", scaled_logits, "logits x width^-0.5");
  visit.real("start_deviation", start_deviation, {0, 10},
             "standard deviation of the weights at the start, for what writes to the residual stream / sqrt(2 blocks); 0 = inputs^-0.5");
  visit.real("dropout", dropout, {0, 0.999}, "dropout after attention and feed-forward networks while training");
}

void TextConfig::resolve(const InputSpec& input) {
  if (!decoder_blocks) decoder_blocks = blocks;
  if (!key_value_heads) key_value_heads = heads;
  if (!head_width) {
    ADATAPE_CHECK(width % heads == 0, "config", "model.heads: expected a divisor of model.width ", width, ", got ", heads,
                  "; or set model.head_width");
    head_width = width / heads;
  }
  if (!context) context = std::max<int64_t>({input.length, input.decoder_length, 1});
  if (norm == "rms") norm_bias = false;
}

void TextConfig::validate(const InputSpec& input) const {
  ADATAPE_CHECK(heads % *key_value_heads == 0, "config", "model.key_value_heads: expected a divisor of model.heads ", heads, ", got ",
                *key_value_heads);
  ADATAPE_CHECK(positions != "rotary" || *head_width % 2 == 0, "config",
                "model.head_width: expected an even number with rotary positions, got ", *head_width);
  ADATAPE_CHECK(input.kind == InputSpec::Kind::kSymbols, "config", "model.name: \"", name,
                "\" reads symbols, the task gives images or vectors");
  ADATAPE_CHECK(input.answers_each, "config", "model.name: \"", name,
                "\" gives an answer for each element of a sequence, the task wants one for each example");
  ADATAPE_CHECK(encoder_decoder() == (input.decoder_length > 0), "config", "model.name: \"", name, "\" ",
                encoder_decoder() ? "reads two sequences, the task gives one" : "reads one sequence, the task gives two");
  ADATAPE_CHECK(!tied_embeddings || input.classes == input.vocabulary, "config",
                "model.tied_embeddings: expected as many classes as symbols, got ", input.classes, " and ", input.vocabulary,
                "; set it to false");
  ADATAPE_CHECK(!(encoder_decoder() && parallel), "config", "model.parallel: expected false with an encoder-decoder");
  if (positions == "relative") {
    const int64_t least = encoder_decoder() ? 4 : 2;
    ADATAPE_CHECK(relative_buckets >= least && relative_max_distance > relative_buckets / 2, "config",
                  "model.relative_buckets: expected at least ", least, " and relative_max_distance above half of them, got ",
                  relative_buckets, " and ", relative_max_distance);
  }
}

TextBlockShape TextConfig::block_shape() const {
  TextBlockShape shape;
  shape.width = width;
  shape.heads = heads;
  shape.key_value_heads = *key_value_heads;
  shape.head_width = *head_width;
  shape.ffn_width = ffn_width;
  shape.norm = norm == "rms" ? NormKind::kRms : NormKind::kLayer;
  shape.epsilon = norm_epsilon;
  shape.biases = biases;
  shape.norm_bias = norm_bias;
  shape.parallel = parallel;
  shape.activation = parse_activation(activation);
  shape.scaled = scaled_attention;
  shape.rotary_base = positions == "rotary" ? rotary_base : 0;
  shape.dropout = dropout;
  return shape;
}

TextConfig gpt_defaults() {
  TextConfig config;
  config.name = "gpt";
  config.norm_epsilon = 1e-5;
  config.start_deviation = 0.02;
  return config;
}

TextConfig palm_defaults() {
  TextConfig config;
  config.name = "palm";
  config.key_value_heads = 1;
  config.activation = "swiglu";
  config.norm_bias = false;
  config.biases = false;
  config.parallel = true;
  config.positions = "rotary";
  config.scaled_logits = true;
  return config;
}

TextConfig t5_defaults() {
  TextConfig config;
  config.name = "t5";
  config.activation = "relu";
  config.norm = "rms";
  config.norm_bias = false;
  config.biases = false;
  config.positions = "relative";
  config.scaled_attention = false;
  config.scaled_logits = true;
  return config;
}

}  // namespace adatape
