#include "adatape/models/avit.h"

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/models/token_record.h"
#include "adatape/nn/halting.h"
#include "adatape/nn/step_sums.h"

namespace adatape {

AVitConfig::AVitConfig() {
  stem.class_token = true;
  head.pooling = "token";
  gelu = "exact";
}

void AVitConfig::fields(FieldVisitor& visit) {
  EncoderConfig::fields(visit);
  visit.integer("blocks", blocks, {1, 10000}, "number of encoder blocks: tokens still there halt after the last");
  visit.real("gate_scale", gate_scale, {}, "gamma: a token's halting probability is sigmoid(gamma x[0] - beta) after each block");
  visit.real("gate_center", gate_center, {}, "beta; published 30 for the tiny size, 75 for the small one");
  visit.real("epsilon", epsilon, {0, 0.5}, "a token halts when its probabilities sum to more than 1 - epsilon");
  visit.real("ponder_weight", ponder_weight, {0, 1e6}, "weight of the ponder loss (steps + remainder, mean over tokens)");
  visit.real("distribution_weight", distribution_weight, {0, 1e6},
             "weight of KL(mean halting distribution over blocks || prior), patch tokens of the whole batch");
  visit.real("prior_mean", prior_mean, {}, "mean of the prior, in blocks counted from 0");
  visit.real("prior_deviation", prior_deviation, {1e-3, 1e6}, "standard deviation of the prior, in blocks");
  visit.real("tape_ponder_weight", tape_ponder_weight, {0, 1e6}, "weight of the readers' ponder loss, where there are readers");
  tape_fields(visit);
}

void AVitConfig::resolve(const InputSpec& input) {
  EncoderConfig::resolve(input);
  resolve_tape(*this);
}

void AVitConfig::validate(const InputSpec& input) const {
  EncoderConfig::validate(input);
  validate_tape(*this, 1);  // tapes stand in front of the first block
}

AVit::AVit(const AVitConfig& config, const InputSpec& input) : config_(config) {
  stem_ = register_module("stem", std::make_shared<Stem>(config.stem, input, config.width));
  stem_->exact_patches = !config.readers.empty();
  tapes_.emplace(config, config, input,
                 [this](const std::string& name, const std::shared_ptr<Module>& module) { register_module(name, module); });
  const int64_t tape_width = config.readers.empty() ? 0 : *config.tape_ffn_width;
  for (int64_t i = 0; i < config.blocks; ++i) {
    blocks_.push_back(
        register_module("block_" + std::to_string(i), std::make_shared<EncoderBlock>(config.block_shape(i, config.blocks, tape_width))));
  }
  ADATAPE_CHECK(config.head.pooling != "each", "config", "model.name: \"avit\" gives one answer an example, the task asks at each element");
  head_ = register_module("head", std::make_shared<Head>(config.head, config.width, input.classes));
}

void AVit::initialize(uint64_t seed, uint64_t draw) {
  at::Generator generator = parameter_generator(seed, draw);
  stem_->initialize(generator);
  tapes_->initialize(generator);
  for (const auto& block : blocks_) block->initialize(generator);
  head_->initialize(generator);
}

namespace {

// The tokens still in the sequence.
struct Live {
  PackedTokens tokens;
  std::vector<int64_t> rows;  // of the first pack
  torch::Tensor h;            // [live] sum of their probabilities so far
};

// What analysis sees of each token of the first pack, [total, blocks] or [total].
struct Record {
  torch::Tensor weights, probabilities, steps, remainders;
  Record(int64_t total, int64_t blocks, const torch::TensorOptions& options)
      : weights(torch::zeros({total, blocks}, options)),
        probabilities(torch::zeros_like(weights)),
        steps(torch::zeros({total}, options.dtype(torch::kInt32))),
        remainders(torch::zeros({total}, options)) {}

  void add(const std::vector<int64_t>& rows, const torch::Tensor& p, const ActStep& act, int64_t block) {
    const torch::Tensor index = index_tensor(rows, p.device());
    weights.select(1, block).index_copy_(0, index, act.weight.detach());
    probabilities.select(1, block).index_copy_(0, index, p.detach());
    steps.index_add_(0, index, torch::ones_like(index, steps.options()));
    remainders.index_add_(0, index, act.weight.detach() * act.halts);
  }

  void write(const PackLayout& all, ModelOutput& output) const {
    const bool uniform = all.uniform();
    const auto by_example = [&](const torch::Tensor& x) {
      std::vector<int64_t> shape = x.sizes().vec();
      shape.front() = all.longest();
      shape.insert(shape.begin(), all.batch());
      return uniform ? x.view(shape) : x;
    };
    output.intermediates["step_weights"] = by_example(weights);
    output.intermediates["halting_probabilities"] = by_example(probabilities);
    output.intermediates["steps"] = by_example(steps);
    output.intermediates["remainders"] = by_example(remainders);
    output.step_weights = uniform ? by_example(weights).transpose(1, 2) : weights;
  }
};

}  // namespace

ModelOutput AVit::forward(const Batch& batch, const ForwardOptions& options) {
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  Live live;
  TapeFront::Pass pass;
  live.tokens = tapes_->read(pass, 0, stem_->forward(batch, context), batch, context, output);
  const std::shared_ptr<const PackLayout> all = live.tokens.layout;
  const torch::TensorOptions real = live.tokens.values.options().requires_grad(false);
  live.rows.resize(static_cast<size_t>(all->total()));
  std::iota(live.rows.begin(), live.rows.end(), 0);
  live.h = torch::zeros({all->total()}, real);
  StepSums sums(live.tokens, config_.head.pooling == "token");
  torch::Tensor ponder = torch::zeros({all->batch()}, real);
  std::vector<torch::Tensor> patch_weights;  // of each block, summed over the batch's tokens except class tokens
  std::unique_ptr<Record> record;
  if (options.record) record = std::make_unique<Record>(all->total(), config_.blocks, real);

  for (int64_t i = 0; i < config_.blocks && !live.rows.empty(); ++i) {
    const bool last = i + 1 == config_.blocks;
    live.tokens = blocks_[i]->forward(live.tokens, context, i, stochastic_depth_rate(config_.stochastic_depth, i, config_.blocks));
    const PackLayout& layout = *live.tokens.layout;
    const torch::Tensor p =
        last ? torch::ones({layout.total()}, real) : gate_probability(live.tokens.values, config_.gate_scale, config_.gate_center);
    const ActStep act = act_step(p, live.h, config_.epsilon, last);
    sums.add(live.tokens.values, live.rows, act.weight);
    patch_weights.push_back(act.weight.index_select(0, layout.rows_but(TokenKind::kClass)).sum());
    if (options.record) {
      output.block_tokens.push_back(layout.lengths());
      record->add(live.rows, p, act, i);
    }

    const torch::Tensor halts = act.halts.cpu();
    std::vector<int64_t> halted, going, rows;
    for (int64_t token = 0; token < layout.total(); ++token) {
      if (halts.const_data_ptr<bool>()[token]) {
        halted.push_back(token);
      } else {
        going.push_back(token);
        rows.push_back(live.rows[token]);
      }
    }
    if (halted.empty()) {
      live.h = live.h + p;
      continue;
    }
    const torch::Tensor halted_index = index_tensor(halted, ponder.device()), going_index = index_tensor(going, ponder.device());
    ponder.index_add_(0, layout.example_of_token().index_select(0, halted_index),
                      act.weight.index_select(0, halted_index) + static_cast<double>(i + 1));
    if (going.empty()) break;
    live.h = (live.h + p).index_select(0, going_index);
    live.tokens = {live.tokens.values.index_select(0, going_index), kept_layout(layout, going)};
    live.rows = std::move(rows);
  }

  const auto count_of = [&](int64_t count) { return static_cast<double>(std::max<int64_t>(count, 1)); };
  output.auxiliary_losses.push_back({"ponder", ponder / index_tensor(all->lengths(), ponder.device()).clamp_min(1), config_.ponder_weight});
  while (static_cast<int64_t>(patch_weights.size()) < config_.blocks) patch_weights.push_back(torch::zeros({}, real));
  const torch::Tensor distribution = torch::stack(patch_weights) / count_of(all->total() - all->count(TokenKind::kClass));
  const torch::Tensor log_prior = log_depth_prior(config_.blocks, config_.prior_mean, config_.prior_deviation, real);
  output.auxiliary_losses.push_back({"distribution", depth_distribution_loss(distribution, log_prior).expand({all->batch()}),
                                     config_.distribution_weight, /*of_batch=*/true});
  if (pass.ponder.defined()) output.auxiliary_losses.push_back({"tape_ponder", pass.ponder, config_.tape_ponder_weight});
  output.logits = head_->forward(sums.tokens(), context);
  if (options.record) {
    record->write(*all, output);
    record_tokens(*all, output);
    output.intermediates["mean_halting_distribution"] = distribution.detach();
    output.intermediates["prior"] = log_prior.exp();
  }
  return output;
}

}  // namespace adatape
