#include "adatape/models/encoder_config.h"

#include "adatape/core/check.h"

namespace adatape {

void EncoderConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "which model, or which published size of one: see `adatape list models`");
  stem.fields(visit);
  visit.integer("width", width, {1, 65536}, "width D of all tokens");
  visit.integer("heads", heads, {1, 4096}, "attention heads; must divide width");
  visit.integer("ffn_width", ffn_width, {1, 1000000}, "inner width of the feed-forward networks");
  visit.choice("gelu", gelu, {"tanh", "exact"}, "form of GELU: tanh for Flax-born weights, exact for timm-born ones");
  visit.real("dropout", dropout, {0, 0.999}, "dropout after attention and feed-forward networks while training");
  visit.real("stochastic_depth", stochastic_depth, {0, 0.999},
             "rate of dropping a residual branch of an example at the last block, growing linearly from 0");
  visit.choice("last_block", last_block, {"all", "pooled"},
               "which tokens the last block computes: all, or with pooling = \"token\" the class token alone, which sees the same keys and "
               "gives the same logits for less work");
  head.fields(visit);
  visit.table("moe", moe, "experts in the place of feed-forward networks, of which each token is served by a few");
}

void EncoderConfig::resolve(const InputSpec& input) {
  // Before anything derives from heads.
  ADATAPE_CHECK(width % heads == 0, "config", "model.heads: expected a divisor of model.width ", width, ", got ", heads);
  stem.resolve(input);
  if (input.answers_each) head.pooling = "each";
}

void EncoderConfig::validate(const InputSpec& input) const {
  ADATAPE_CHECK(head.pooling != "token" || stem.class_token, "config",
                "model.pooling: \"token\" needs a class token; set model.class_token = true or model.pooling = \"gap\"");
  ADATAPE_CHECK(last_block == "all" || head.pooling == "token", "config",
                "model.last_block: \"pooled\" needs model.pooling = \"token\", got \"", head.pooling, "\"");
  ADATAPE_CHECK((head.pooling == "each") == input.answers_each, "config", "model.pooling: expected ",
                input.answers_each ? "\"each\" where the task asks at each element of a sequence" : "\"gap\" or \"token\"", ", got \"",
                head.pooling, "\"");
  ADATAPE_CHECK(!input.answers_each || stem.input == "tokens", "config", "model.input: expected \"tokens\" where the task asks at each ",
                "element of a sequence, got \"", stem.input, "\"");
  ADATAPE_CHECK(input.decoder_length == 0, "config", "model.name: \"", name, "\" reads one sequence, the task gives two");
  ADATAPE_CHECK(moe.experts == 0 || moe.top_k <= moe.experts, "config", "model.moe.top_k: expected at most model.moe.experts ", moe.experts,
                ", got ", moe.top_k);
  ADATAPE_CHECK(input.classes >= 2, "config", "task: expected at least 2 classes, got ", input.classes);
}

EncoderBlockShape EncoderConfig::block_shape(int64_t index, int64_t blocks, int64_t tape_ffn_width) const {
  EncoderBlockShape shape{width, heads, ffn_width, tape_ffn_width, parse_gelu(gelu), dropout};
  ADATAPE_CHECK(moe.experts == 0 || blocks == 1 || moe.every <= blocks, "config", "model.moe.every: expected at most the ", blocks,
                " blocks, got ", moe.every);
  if (moe.experts > 0 && (blocks == 1 || (index + 1) % moe.every == 0)) shape.moe = moe;
  return shape;
}

double stochastic_depth_rate(double last, int64_t index, int64_t count) {
  return count <= 1 ? last : last * static_cast<double>(index) / static_cast<double>(count - 1);
}

PackedTokens run_block(const EncoderConfig& config, const EncoderBlock& block, int64_t index, int64_t blocks, const PackedTokens& tokens,
                       const ForwardContext& context) {
  const double rate = stochastic_depth_rate(config.stochastic_depth, index, blocks);
  if (config.last_block != "pooled" || index + 1 < blocks) return block.forward(tokens, context, index, rate);
  const torch::Tensor& rows = tokens.layout->rows_of(TokenKind::kClass);
  const torch::Tensor rows_cpu = rows.to(torch::kCPU);
  const auto kept = kept_layout(*tokens.layout, {rows_cpu.data_ptr<int64_t>(), rows_cpu.data_ptr<int64_t>() + rows_cpu.numel()});
  return {block.forward_queries(class_tokens(tokens), kept, tokens.values, *tokens.layout, context, index, rate, /*one_query=*/true), kept};
}

void answer(const Head& head, const PackedTokens& tokens, const ForwardContext& context, ModelOutput& output, torch::Tensor* features) {
  output.logits = head.forward(tokens, context, features);
  if (head.config.pooling == "each") output.logits_layout = Head::answer_layout(tokens.layout);
}

ForwardContext context_of(const Batch& batch, const ForwardOptions& options, ModelOutput& output) {
  ForwardContext context;
  context.training = options.training;
  context.seed = options.seed;
  context.step = options.step;
  context.draw_step = options.draw_step;
  context.examples = batch.examples.defined() ? batch.examples : torch::arange(batch.size(), torch::kInt64);
  context.work = options.record ? &output.work : nullptr;
  context.auxiliary_losses = &output.auxiliary_losses;
  context.expert_loads = options.record ? &output.expert_loads : nullptr;
  return context;
}

}  // namespace adatape
